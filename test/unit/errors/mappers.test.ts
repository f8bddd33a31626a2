import { expect } from 'chai';
import * as errors from '../../../src/errors/errors.ts';
import { toDocker } from '../../../src/errors/to-docker.ts';
import { toExitCode } from '../../../src/errors/to-exit-code.ts';
import { toHttp } from '../../../src/errors/to-http.ts';

const classes = [
  [errors.InvalidArgument, 400, 2],
  [errors.NotFound, 404, 3],
  [errors.AlreadyExists, 409, 4],
  [errors.FailedPrecondition, 409, 4],
  [errors.Aborted, 409, 4],
  [errors.Exhausted, 507, 5],
  [errors.Unavailable, 503, 5],
  [errors.DeadlineExceeded, 504, 5],
  [errors.Unimplemented, 501, 1],
  [errors.Internal, 500, 70],
] as const;

describe('how failures leave the daemon', () => {
  for (const [ErrorClass, status, exitCode] of classes) {
    const error = new ErrorClass('volume db: no; do this');

    it(`S13 ${error.code} reaches an engine as HTTP 500 with the text in Err`, () => {
      expect(toDocker(error)).to.deep.equal({ status: 500, body: { Err: 'volume db: no; do this' } });
    });

    it(`${error.code} is HTTP ${status} on the admin socket, with its code`, () => {
      expect(toHttp(error)).to.deep.equal({
        status,
        body: { code: error.code, message: 'volume db: no; do this' },
      });
    });

    it(`${error.code} ends the command with ${exitCode}`, () => {
      expect(toExitCode(error)).to.equal(exitCode);
    });
  }

  it('what is none of ours is Internal, and no text of it is lost', () => {
    for (const thrown of [new TypeError('x is undefined'), 'x is undefined']) {
      expect(toDocker(thrown).body.Err).to.equal('x is undefined');
      expect(toHttp(thrown)).to.deep.equal({
        status: 500,
        body: { code: 'Internal', message: 'x is undefined' },
      });
      expect(toExitCode(thrown)).to.equal(70);
    }
  });
});
