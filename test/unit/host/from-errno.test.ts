import { stat } from 'node:fs/promises';
import { constants } from 'node:os';
import { expect } from 'chai';
import { NotFound, VarveError } from '../../../src/errors/errors.ts';
import { errnoName, errorCode, fromErrno, fromNodeError } from '../../../src/errors/from-errno.ts';
import { rejection } from '../../support/rejection.ts';

const classes = {
  NotFound: ['ENOENT', 'ESRCH'],
  AlreadyExists: ['EEXIST', 'EADDRINUSE'],
  FailedPrecondition: ['EBUSY', 'ENOTEMPTY', 'EPERM', 'EACCES', 'ELOOP', 'EXDEV', 'ENOTDIR'],
  Exhausted: ['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM'],
  Unavailable: ['EIO', 'EROFS', 'ESTALE', 'ENODEV', 'ENOTCONN', 'ECONNREFUSED'],
  Unimplemented: ['ENOSYS', 'ENOTTY', 'EOPNOTSUPP'],
  InvalidArgument: ['ENAMETOOLONG'],
  Internal: ['EINVAL', 'EBADF', 'EFAULT'],
} as const;

const numbers: Readonly<Record<string, number>> = constants.errno;

describe('fromErrno', () => {
  for (const [code, names] of Object.entries(classes)) {
    it(`makes ${code} of ${names.join(', ')}`, () => {
      for (const name of names) {
        const error = fromErrno(numbers[name] ?? -1, 'remove /srv/a');
        expect(error.code, name).to.equal(code);
        expect(error.message).to.match(new RegExp(`^cannot remove /srv/a: .*\\(${name}\\)$`));
      }
    });
  }

  it('names a number that has no name', () => {
    expect(fromErrno(9999, 'try').message).to.include('errno 9999');
  });
});

describe('errnoName', () => {
  it('prefers the usual one of two names for a number', () => {
    expect(errnoName(constants.errno.EWOULDBLOCK)).to.equal('EAGAIN');
    expect(errnoName(constants.errno.ENOTSUP)).to.equal('EOPNOTSUPP');
  });
});

describe('fromNodeError', () => {
  it('maps an error of node:fs and keeps it as the cause', async () => {
    const cause = await rejection(stat('/none/none'));
    const error = fromNodeError(cause, 'look at /none/none');
    expect(error).to.be.instanceOf(NotFound);
    expect(error.cause).to.equal(cause);
    expect(errorCode(cause)).to.equal('ENOENT');
  });

  it('lets an error of ours pass', () => {
    const ours = new NotFound('volume db does not exist');
    expect(fromNodeError(ours, 'anything')).to.equal(ours);
  });

  it('takes a fired signal for Aborted, and its timeout for DeadlineExceeded', () => {
    expect(fromNodeError(new DOMException('x', 'AbortError'), 'copy').code).to.equal('Aborted');
    expect(fromNodeError(new DOMException('x', 'TimeoutError'), 'copy').code).to.equal('DeadlineExceeded');
  });

  it('makes Internal of everything else, and keeps its text', () => {
    for (const thrown of [new TypeError('odd'), 'odd', { toString: () => 'odd' }]) {
      const error = fromNodeError(thrown, 'copy /a');
      expect(error).to.be.instanceOf(VarveError).and.have.property('code', 'Internal');
      expect(error.message).to.include('copy /a').and.include('odd');
    }
  });
});
