import { expect } from 'chai';
import type { Change, ObjectStore } from '../../src/core/ports.ts';
import { Aborted, InvalidArgument } from '../../src/errors/errors.ts';
import { rejection } from '../support/rejection.ts';
import { objectStoreModelSuite } from './object-store-model.ts';
import { objectStoreWatchSuite } from './object-store-watch.ts';

/** A new store, and what removes it after it was closed. */
export interface StoreWorld {
  readonly store: ObjectStore;
  remove(): void;
}

/** Opens a new, empty store that keeps the given number of changes for watchers. */
export type OpenStore = (options?: { readonly historyLimit?: number }) => Promise<StoreWorld>;

export const put = (key: string, value: unknown = key): Change => ({ type: 'put', key, value });
export const drop = (key: string): Change => ({ type: 'delete', key });

/** In the order of their UTF-8 bytes; UTF-16 units put the last two the other way round. */
const orderedKeys = ['%', '%/a', 'A', '_', 'a', 'a%', 'a/', 'a/b', 'a_', 'aa', 'ä', 'ä/ö', '\uffee', '😀'];

const values: readonly unknown[] = [
  null,
  false,
  0,
  -1.5,
  '',
  'ünï \u0000 😀 \ud800',
  [],
  {},
  [1, [2, [3, { four: null }]]],
  { 'a.b': { '': [true] }, ['__proto__x']: 1, unicode: '\u2028' },
];

/** What every {@link ObjectStore} does. */
export function objectStoreSuite(name: string, open: OpenStore): void {
  describe(`ObjectStore: ${name}`, () => {
    let world: StoreWorld;
    let store: ObjectStore;

    beforeEach(async () => {
      world = await open();
      store = world.store;
    });

    afterEach(async () => {
      await store.close();
      world.remove();
    });

    const pages = async (limit: number): Promise<string[]> => {
      const seen: string[] = [];
      let page = await keys('', { limit });
      while (page.length > 0) {
        expect(page.length).to.be.at.most(limit);
        seen.push(...page);
        expect(seen.length, 'a page came again').to.be.at.most(orderedKeys.length);
        page = await keys('', { limit, after: page.at(-1) ?? '' });
      }
      return seen;
    };

    const keys = async (prefix: string, page?: { limit?: number; after?: string }) =>
      (await store.list(prefix, page)).map(({ key }) => key);

    describe('values', () => {
      it('come back as they were put, by get and by list', async () => {
        for (const [index, value] of values.entries()) {
          const revision = await store.transaction([], [put('v', value)]);
          expect(revision).to.equal(index + 1);
          const expected = { key: 'v', value, createdRevision: 1, revision };
          expect(await store.get('v')).to.deep.equal(expected);
          expect(await store.list('v')).to.deep.equal([expected]);
        }
      });

      it('belong to the store: changing what was put or read changes nothing in it', async () => {
        const given = { list: ['a'] };
        await store.transaction([], [put('v', given)]);
        given.list.push('b');
        const read = (await store.get('v'))?.value as typeof given;
        read.list.push('c');
        expect((await store.get('v'))?.value).to.deep.equal({ list: ['a'] });
      });

      for (const [what, value] of [
        ['undefined', undefined],
        ['a function', () => 1],
        ['a bigint', 1n],
      ] as const) {
        it(`that are no JSON (${what}) are refused, and nothing of the transaction happens`, async () => {
          const refused = await rejection(
            store.transaction([], [put('a'), { type: 'put', key: 'b', value }]),
          );
          expect(refused).to.be.instanceOf(InvalidArgument);
          expect(refused.message).to.include('"b"');
          expect(await store.revision()).to.equal(0);
          expect(await store.get('a')).to.equal(undefined);
        });
      }
    });

    describe('revisions', () => {
      it('start at 0, and grow by one for each transaction that changes something', async () => {
        expect(await store.revision()).to.equal(0);
        expect(await store.transaction([], [put('a'), put('b'), put('c')])).to.equal(1);
        expect(await store.transaction([], [put('a'), drop('b')])).to.equal(2);
        expect(await store.revision()).to.equal(2);
        expect((await store.get('a'))?.revision).to.equal(2);
        expect((await store.get('c'))?.revision).to.equal(1);
      });

      it('are taken by a put of the same value too', async () => {
        await store.transaction([], [put('a', 1)]);
        expect(await store.transaction([], [put('a', 1)])).to.equal(2);
        expect(await store.get('a')).to.include({ createdRevision: 1, revision: 2 });
      });

      it('are not taken by a transaction that changes nothing', async () => {
        await store.transaction([], [put('a')]);
        expect(await store.transaction([], [])).to.equal(1);
        expect(await store.transaction([], [drop('missing')])).to.equal(1);
        expect(await store.transaction([{ key: 'a', revision: 1 }], [])).to.equal(1);
        expect(await store.revision()).to.equal(1);
      });

      it('of creation start anew when an object is made again', async () => {
        await store.transaction([], [put('a')]);
        await store.transaction([], [drop('a')]);
        await store.transaction([], [put('a')]);
        expect(await store.get('a')).to.include({ createdRevision: 3, revision: 3 });
      });
    });

    describe('conditions', () => {
      it('let a transaction through when the object has exactly this revision', async () => {
        await store.transaction([], [put('a', 1)]);
        await store.transaction([{ key: 'a', revision: 1 }], [put('a', 2)]);
        expect((await store.get('a'))?.value).to.equal(2);
      });

      it('with revision 0 hold for an object that does not exist, once', async () => {
        const create = () => store.transaction([{ key: 'a', revision: 0 }], [put('a')]);
        expect(await create()).to.equal(1);
        expect(await rejection(create())).to.be.instanceOf(Aborted);
        await store.transaction([], [drop('a')]);
        expect(await create()).to.equal(3);
      });

      for (const wrong of [0, 1, 3]) {
        it(`stop everything when one fails (revision ${wrong} of an object at 2)`, async () => {
          await store.transaction([], [put('a', 1), put('b', 1)]);
          await store.transaction([], [put('a', 2)]);
          const compares = [
            { key: 'b', revision: 1 },
            { key: 'a', revision: wrong },
          ];
          const failed = await rejection(store.transaction(compares, [put('b', 9), put('c'), drop('a')]));
          expect(failed).to.be.instanceOf(Aborted);
          expect(failed.message).to.include('a');
          expect(await store.revision()).to.equal(2);
          expect((await store.list('')).map(({ value }) => value)).to.deep.equal([2, 1]);
        });
      }

      it('are checked even when nothing is to be changed', async () => {
        expect(await rejection(store.transaction([{ key: 'a', revision: 1 }], []))).to.be.instanceOf(Aborted);
      });

      it('let exactly one of several racing writers win', async () => {
        await store.transaction([], [put('a', 'start')]);
        const compares = [{ key: 'a', revision: 1 }];
        const racing = [1, 2, 3, 4, 5].map(value => store.transaction(compares, [put('a', value)]));
        const outcomes = await Promise.allSettled(racing);
        expect(outcomes.filter(({ status }) => status === 'fulfilled')).to.have.length(1);
        expect(await store.revision()).to.equal(2);
      });
    });

    describe('a transaction', () => {
      it('that changes a key twice is refused', async () => {
        for (const changes of [
          [put('a', 1), put('a', 2)],
          [put('a'), drop('a')],
        ]) {
          expect(await rejection(store.transaction([], changes))).to.be.instanceOf(InvalidArgument);
        }
        expect(await store.revision()).to.equal(0);
      });

      it('with an empty key, or one that UTF-8 cannot hold, is refused', async () => {
        for (const key of ['', 'a\ud800', '\udc00']) {
          expect(await rejection(store.transaction([], [put(key, 1)])), key).to.be.instanceOf(
            InvalidArgument,
          );
        }
        expect(await store.list('')).to.deep.equal([]);
      });
    });

    describe('a list', () => {
      beforeEach(async () => {
        await store.transaction(
          [],
          orderedKeys.toReversed().map(key => put(key)),
        );
      });

      it('is in the order of the bytes of the keys', async () => {
        expect(await keys('')).to.deep.equal(orderedKeys);
      });

      for (const prefix of ['a', 'a/', 'a%', 'a_', '_', '%', 'ä', 'Ä', '😀', '\uffee', 'nothing', 'a/b/c']) {
        it(`under ${JSON.stringify(prefix)} has the keys that start with exactly that`, async () => {
          expect(await keys(prefix)).to.deep.equal(orderedKeys.filter(key => key.startsWith(prefix)));
        });
      }

      for (const limit of [1, 2, 5, orderedKeys.length, 100]) {
        it(`in pages of ${limit} has every key once`, async () => {
          const seen = await pages(limit);
          expect(seen).to.deep.equal(orderedKeys);
        });
      }

      it('can start after a key that does not exist, that is before the prefix, or behind it', async () => {
        expect(await keys('a', { after: 'a0' })).to.deep.equal(['a_', 'aa']);
        expect(await keys('a', { after: 'A' })).to.deep.equal(['a', 'a%', 'a/', 'a/b', 'a_', 'aa']);
        expect(await keys('a', { after: 'b' })).to.deep.equal([]);
        expect(await keys('a', { limit: 0 })).to.deep.equal([]);
      });

      it('with a limit that is no whole number from 0 on is refused', async () => {
        for (const limit of [-1, 1.5, Number.NaN]) {
          expect(await rejection(store.list('', { limit }))).to.be.instanceOf(InvalidArgument);
        }
      });
    });

    objectStoreWatchSuite(open);
    objectStoreModelSuite(open);
  });
}
