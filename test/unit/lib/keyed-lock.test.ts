import { expect } from 'chai';
import { DeadlineExceeded } from '../../../src/errors/errors.ts';
import { KeyedLock } from '../../../src/lib/keyed-lock.ts';
import { rejection } from '../../support/rejection.ts';

const long = 60_000;

describe('a keyed lock', () => {
  let lock: KeyedLock<string>;
  let done: string[];

  beforeEach(() => {
    lock = new KeyedLock();
    done = [];
  });

  /** Holds the lock until it is told to let go. */
  function hold(key: string, name: string): { readonly ended: Promise<void>; readonly release: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>();
    const ended = lock.with(key, long, async () => {
      done.push(`${name} begins`);
      await promise;
      done.push(`${name} ends`);
    });
    return { ended, release: resolve };
  }

  it('is given in the order of asking, to one at a time', async () => {
    const holds = ['a', 'b', 'c'].map(name => hold('db', name));
    for (const { release } of holds.toReversed()) release();
    await Promise.all(holds.map(({ ended }) => ended));
    expect(done).to.deep.equal(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  it('of one key does not hold another', async () => {
    const a = hold('a', 'a');
    await lock.with('b', 0, async () => done.push('b'));
    expect(done).to.deep.equal(['a begins', 'b']);
    a.release();
    await a.ended;
  });

  it('passes on what the work gives, and its failure, and is free after either', async () => {
    expect(await lock.with('db', long, async ({ key }) => `${key}!`)).to.equal('db!');
    const failure = new Error('no');
    expect(await rejection(lock.with('db', long, () => Promise.reject(failure)))).to.equal(failure);
    const thrown = lock.with('db', long, () => {
      throw failure;
    });
    expect(await rejection(thrown)).to.equal(failure);
    expect(await lock.with('db', 0, async () => 'free')).to.equal('free');
  });

  it('is waited for only so long; nothing is done then', async () => {
    const a = hold('db', 'a');
    const error = await rejection(lock.with('db', 5, async () => done.push('late')));
    expect(error).to.be.instanceOf(DeadlineExceeded);
    expect(error.message).to.contain('db').and.to.contain('0.005 s');
    a.release();
    await a.ended;
    expect(done).to.deep.equal(['a begins', 'a ends']);
  });

  it('stays with its holder when somebody who waited for it gave up', async () => {
    const a = hold('db', 'a');
    await rejection(lock.with('db', 5, async () => {}));
    const b = hold('db', 'b');
    b.release();
    await rejection(lock.with('db', 5, async () => done.push('too early')));
    a.release();
    await b.ended;
    expect(done).to.deep.equal(['a begins', 'a ends', 'b begins', 'b ends']);
  });

  it('is passed on when those in between gave up', async () => {
    const a = hold('db', 'a');
    const impatient = rejection(lock.with('db', 5, async () => {}));
    const c = hold('db', 'c');
    await impatient;
    a.release();
    c.release();
    await c.ended;
    expect(done.at(-1)).to.equal('c ends');
  });
});
