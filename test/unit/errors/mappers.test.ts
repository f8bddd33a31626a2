import { expect } from 'chai';
import * as errors from '../../../src/errors/errors.ts';
import { fromGrpc } from '../../../src/errors/from-grpc.ts';
import { toDocker } from '../../../src/errors/to-docker.ts';
import { toExitCode } from '../../../src/errors/to-exit-code.ts';
import { toGrpc } from '../../../src/errors/to-grpc.ts';
import { toHttp } from '../../../src/errors/to-http.ts';

const classes = [
  [errors.InvalidArgument, 400, 2, 3],
  [errors.NotFound, 404, 3, 5],
  [errors.AlreadyExists, 409, 4, 6],
  [errors.FailedPrecondition, 409, 4, 9],
  [errors.Aborted, 409, 4, 10],
  [errors.Exhausted, 507, 5, 8],
  [errors.Unavailable, 503, 5, 14],
  [errors.DeadlineExceeded, 504, 5, 4],
  [errors.Unimplemented, 501, 1, 12],
  [errors.Internal, 500, 70, 13],
] as const;

describe('how failures leave the daemon', () => {
  for (const [ErrorClass, status, exitCode, grpcCode] of classes) {
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

    it(`${error.code} is gRPC status ${grpcCode}, and back`, () => {
      expect(toGrpc(error)).to.deep.equal({ code: grpcCode, details: 'volume db: no; do this' });
      const back = fromGrpc(grpcCode, { message: 'theirs', cause: error });
      expect(back).to.be.instanceOf(ErrorClass);
      expect(back).to.include({ message: 'theirs', cause: error });
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
      expect(toGrpc(thrown)).to.deep.equal({ code: 13, details: 'x is undefined' });
    }
  });

  it('a gRPC status that none of our classes stands for is the nearest one, or Internal', () => {
    const codeOf = (code: number) => fromGrpc(code, { message: 'theirs', cause: undefined }).code;
    expect([1, 11].map(codeOf)).to.deep.equal(['Aborted', 'InvalidArgument']);
    expect([2, 7, 15, 16, 99].map(codeOf)).to.deep.equal(Array(5).fill('Internal'));
  });
});
