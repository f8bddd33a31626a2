import { expect } from 'chai';
import type { ObjectStore, StoreEvent } from '../../src/core/ports.ts';
import { Aborted } from '../../src/errors/errors.ts';
import { rejection } from '../support/rejection.ts';
import { drop, type OpenStore, put, type StoreWorld } from './object-store.ts';

/** The next `count` events, each as a line; fewer when they do not come in time. */
async function take(store: ObjectStore, prefix: string, from: number, count: number): Promise<string[]> {
  const lines: string[] = [];
  if (count === 0) return lines;
  for await (const event of store.watch(prefix, from, AbortSignal.timeout(3_000))) {
    lines.push(line(event));
    if (lines.length === count) break;
  }
  return lines;
}

/** What is there already: the events up to a last one, which this puts. */
async function past(store: ObjectStore, prefix: string, from: number): Promise<string[]> {
  const end = `${prefix}~end`;
  await store.transaction([], [put(end)]);
  const lines: string[] = [];
  for await (const event of store.watch(prefix, from, AbortSignal.timeout(3_000))) {
    if (event.type === 'put' && event.object.key === end) return lines;
    lines.push(line(event));
  }
  throw new Error(`the last event did not come after ${lines.length} events`);
}

function line(event: StoreEvent): string {
  if (event.type === 'delete') return `${event.revision} -${event.key}`;
  const { key, value, revision, createdRevision } = event.object;
  return `${revision} ${key}=${JSON.stringify(value)} since ${createdRevision}`;
}

/** How an {@link ObjectStore} tells of its changes. */
export function objectStoreWatchSuite(open: OpenStore): void {
  describe('a watch', () => {
    let world: StoreWorld;
    let store: ObjectStore;
    const reopen = async (historyLimit?: number) => {
      world = await open(historyLimit === undefined ? {} : { historyLimit });
      store = world.store;
    };
    const end = async () => {
      await store.close();
      world.remove();
    };
    const restart = async (historyLimit: number) => {
      await end();
      await reopen(historyLimit);
    };

    beforeEach(() => reopen());
    afterEach(end);

    it('from the past tells every change in order, with the values of that time', async () => {
      await store.transaction([], [put('b', 1), put('a', 1)]);
      await store.transaction([], [put('a', 2), drop('b'), drop('missing')]);
      await store.transaction([], [drop('a')]);
      expect(await past(store, '', 0)).to.deep.equal([
        '1 b=1 since 1',
        '1 a=1 since 1',
        '2 a=2 since 1',
        '2 -b',
        '3 -a',
      ]);
    });

    it('starts behind the revision it is given', async () => {
      for (const value of [1, 2, 3]) await store.transaction([], [put('a', value)]);
      expect(await past(store, '', 1)).to.deep.equal(['2 a=2 since 1', '3 a=3 since 1']);
      expect(await past(store, '', await store.revision())).to.deep.equal([]);
    });

    it('tells of its prefix only', async () => {
      await store.transaction([], [put('a/1'), put('a%1'), put('a_1'), put('b/1')]);
      expect(await past(store, 'a_', 0)).to.deep.equal(['1 a_1="a_1" since 1']);
      expect(await past(store, 'a/', 0)).to.deep.equal(['1 a/1="a/1" since 1']);
    });

    it('goes on with the changes to come', async () => {
      const events = store.watch('', 0, AbortSignal.timeout(3_000))[Symbol.asyncIterator]();
      const waiting = events.next();
      await store.transaction([], [put('a', 1)]);
      expect(line((await waiting).value)).to.equal('1 a=1 since 1');
      await store.transaction([], [drop('a')]);
      expect(line((await events.next()).value)).to.equal('2 -a');
      await events.return?.();
    });

    it('loses nothing of what happens while its reader is busy', async () => {
      await store.transaction([], [put('n', 0)]);
      const lines: string[] = [];
      for await (const event of store.watch('n', 0, AbortSignal.timeout(3_000))) {
        const n = lines.push(line(event));
        if (n === 20) break;
        await store.transaction([], [put('n', n), put('other')]);
      }
      expect(lines).to.deep.equal(Array.from({ length: 20 }, (_, n) => `${n + 1} n=${n} since 1`));
    });

    it('keeps large transactions whole and in order, whatever it reads at once', async () => {
      const sizes = [1, 255, 256, 257, 700, 3];
      const expected: string[] = [];
      for (const [index, size] of sizes.entries()) {
        const names = Array.from({ length: size }, (_, n) => `${index}/${size - n}`);
        const revision = await store.transaction(
          [],
          names.map(name => put(name, 0)),
        );
        expected.push(...names.map(name => `${revision} ${name}=0 since ${revision}`));
      }
      expect(await take(store, '', 0, expected.length)).to.deep.equal(expected);
    });

    it('can be held by several at once, each at its own pace and prefix', async () => {
      await store.transaction([], [put('a', 0)]);
      const all = take(store, '', 0, 4);
      const late = take(store, '', 1, 3);
      const some = take(store, 'b', 0, 1);
      await store.transaction([], [put('b', 1)]);
      await store.transaction([], [put('a', 2), drop('b')]);
      const later = ['2 b=1 since 2', '3 a=2 since 1', '3 -b'];
      expect(await late).to.deep.equal(later);
      expect(await all).to.deep.equal(['1 a=0 since 1', ...later]);
      expect(await some).to.deep.equal(['2 b=1 since 2']);
    });

    it('ends when its signal fires: before it starts, while it waits, and between two events', async () => {
      expect(await collect(AbortSignal.abort())).to.equal(0);
      const waiting = new AbortController();
      const ended = collect(waiting.signal);
      waiting.abort();
      expect(await ended).to.equal(0);
      await store.transaction([], [put('a'), put('b'), put('c')]);
      const between = new AbortController();
      expect(await collect(between.signal, () => between.abort())).to.equal(1);
    });

    async function collect(signal: AbortSignal, onEvent = () => {}): Promise<number> {
      let count = 0;
      for await (const _ of store.watch('', 0, signal)) {
        count += 1;
        onEvent();
      }
      return count;
    }

    it('ends when the store is closed, while it waits and between two events', async () => {
      await store.transaction([], [put('a'), put('b')]);
      const busy = collect(AbortSignal.timeout(3_000), () => void store.close());
      const idle = take(store, 'nothing', 0, 1);
      expect(await busy).to.be.within(1, 2);
      expect(await idle).to.deep.equal([]);
    });

    it('leaves nothing on its signal while it waits again and again', async () => {
      const { signal, count } = countListeners();
      const events = store.watch('', 0, signal)[Symbol.asyncIterator]();
      for (let n = 0; n < 50; n += 1) {
        const waiting = events.next();
        await store.transaction([], [put('n', n)]);
        await waiting;
      }
      await events.return?.();
      expect(count()).to.equal(0);
    });

    it('from a revision whose changes are gone is refused, and the newest ones stay', async () => {
      await restart(3);
      for (let n = 1; n <= 10; n += 1) await store.transaction([], [put('n', n)]);
      const lines = await take(store, '', 7, 3);
      expect(lines).to.deep.equal(['8 n=8 since 1', '9 n=9 since 1', '10 n=10 since 1']);
      for (const from of [0, 6]) {
        const refused = await rejection(take(store, '', from, 1));
        expect(refused, `${from}`).to.be.instanceOf(Aborted);
        expect(refused.message).to.include('list again');
      }
    });

    it('forgets a transaction as a whole', async () => {
      await restart(3);
      await store.transaction([], [put('a'), put('b')]);
      await store.transaction([], [put('c'), put('d')]);
      expect(await rejection(take(store, '', 0, 1))).to.be.instanceOf(Aborted);
      expect(await take(store, '', 1, 2)).to.deep.equal(['2 c="c" since 2', '2 d="d" since 2']);
    });

    it('gets the newest transaction even when that is longer than the history', async () => {
      await restart(2);
      await store.transaction([], [put('a', 0)]);
      const live = take(store, '', 1, 4);
      await store.transaction(
        [],
        ['b', 'c', 'd', 'e'].map(key => put(key, 0)),
      );
      expect(await live).to.deep.equal(['b', 'c', 'd', 'e'].map(key => `2 ${key}=0 since 2`));
      expect(await rejection(take(store, '', 0, 1))).to.be.instanceOf(Aborted);
    });

    it('that falls behind the history while its reader is busy is refused', async () => {
      await restart(2);
      const read = async () => {
        for await (const _ of store.watch('', 0, AbortSignal.timeout(3_000))) {
          for (let n = 0; n < 5; n += 1) await store.transaction([], [put('n', n)]);
        }
      };
      await store.transaction([], [put('n')]);
      expect(await rejection(read())).to.be.instanceOf(Aborted);
    });

    it('from a revision that the store has not reached is refused', async () => {
      await store.transaction([], [put('a')]);
      expect(await rejection(take(store, '', 2, 1))).to.be.instanceOf(Aborted);
    });
  });
}

function countListeners(): { readonly signal: AbortSignal; count(): number } {
  const { signal } = new AbortController();
  const listeners = new Set<unknown>();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners.add(args[1]);
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners.delete(args[1]);
    remove(...args);
  };
  return { signal, count: () => listeners.size };
}
