import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import * as errors from '../../../src/errors/errors.ts';
import { exitCodes, toExitCode } from '../../../src/errors/to-exit-code.ts';

describe('exit codes', () => {
  const expected = [
    [new errors.InvalidArgument(''), 2],
    [new errors.NotFound(''), 3],
    [new errors.AlreadyExists(''), 4],
    [new errors.FailedPrecondition(''), 4],
    [new errors.Aborted(''), 4],
    [new errors.Exhausted(''), 5],
    [new errors.Unavailable(''), 5],
    [new errors.DeadlineExceeded(''), 5],
    [new errors.Unimplemented(''), 1],
    [new errors.Internal(''), 70],
  ] as const;

  for (const [error, code] of expected) {
    it(`${error.code} is ${code}`, () => {
      expect(toExitCode(error)).to.equal(code);
    });
  }

  it('are 70 for what is no VarveError', () => {
    expect(toExitCode(new TypeError('x'))).to.equal(70);
    expect(toExitCode('x')).to.equal(70);
  });

  it('are all in docs/cli.md with their meaning', () => {
    const docs = readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8');
    for (const { code, meaning } of Object.values(exitCodes))
      expect(docs).to.include(`| ${code} | ${meaning} |`);
  });
});
