import { expect } from 'chai';
import { Cleanup } from '../../../src/lib/cleanup.ts';
import { rejection } from '../../support/rejection.ts';

describe('a cleanup', () => {
  it('undoes in the reverse order, one after the other', async () => {
    const done: string[] = [];
    const cleanup = new Cleanup();
    for (const name of ['a', 'b', 'c']) {
      cleanup.defer(async () => {
        done.push(`${name} begins`);
        await Promise.resolve();
        done.push(`${name} ends`);
      });
    }
    await cleanup.close();
    expect(done).to.deep.equal(['c begins', 'c ends', 'b begins', 'b ends', 'a begins', 'a ends']);
  });

  it('undoes everything when some of it fails, and then says what failed', async () => {
    const done: string[] = [];
    const cleanup = new Cleanup();
    cleanup.defer(() => void done.push('a'));
    cleanup.defer(() => Promise.reject(new Error('b')));
    cleanup.defer(() => {
      throw new Error('c');
    });
    const error = (await rejection(cleanup.close())) as AggregateError;
    expect(error.errors.map(String)).to.deep.equal(['Error: c', 'Error: b']);
    expect(done).to.deep.equal(['a']);
  });

  it('undoes once, and what was deferred meanwhile as well', async () => {
    const done: string[] = [];
    const cleanup = new Cleanup();
    cleanup.defer(() => cleanup.defer(() => void done.push('late')));
    cleanup.defer(() => void done.push('first'));
    await cleanup.close();
    await cleanup.close();
    expect(done).to.deep.equal(['first', 'late']);
  });
});
