import { expect } from 'chai';
import fc from 'fast-check';
import type { Change, Compare, ObjectStore, StoredObject } from '../../src/core/ports.ts';
import { times } from '../support/long.ts';
import type { OpenStore } from './object-store.ts';

interface Request {
  readonly compares: readonly { readonly key: string; readonly kind: 'right' | 'absent' | 'stale' }[];
  readonly changes: readonly Change[];
}

const keys = ['a', 'a%', 'a/', 'a/b', 'a_', 'b', 'ä', '\uffee', '😀'];
const key = fc.constantFrom(...keys);
// JSON has no -0.
const value = fc.jsonValue({ maxDepth: 2 }).map(json => JSON.parse(JSON.stringify(json)) as unknown);

const request: fc.Arbitrary<Request> = fc.record({
  compares: fc.array(
    fc.record({ key, kind: fc.constantFrom('right' as const, 'right', 'right', 'absent', 'stale') }),
    { maxLength: 2 },
  ),
  changes: fc.uniqueArray(
    fc.oneof(
      fc.record({ type: fc.constant('put' as const), key, value }),
      fc.record({ type: fc.constant('delete' as const), key }),
    ),
    { maxLength: 4, selector: change => change.key },
  ),
});

/** What an object store is, in the fewest words. */
class Model {
  readonly objects = new Map<string, StoredObject>();
  revision = 0;

  transaction(compares: readonly Compare[], changes: readonly Change[]): number | 'Aborted' {
    const holds = compares.every(({ key, revision }) => (this.objects.get(key)?.revision ?? 0) === revision);
    if (!holds) return 'Aborted';
    const effective = changes.filter(({ type, key }) => type === 'put' || this.objects.has(key));
    if (effective.length > 0) this.revision += 1;
    for (const change of effective) this.#apply(change);
    return this.revision;
  }

  #apply(change: Change): void {
    const { revision } = this;
    const createdRevision = this.objects.get(change.key)?.createdRevision ?? revision;
    if (change.type === 'delete') this.objects.delete(change.key);
    else this.objects.set(change.key, { key: change.key, value: change.value, createdRevision, revision });
  }

  list(prefix = ''): StoredObject[] {
    return keys.flatMap(key => (key.startsWith(prefix) ? (this.objects.get(key) ?? []) : []));
  }
}

/** The state that the events add up to, from the very first one. */
async function replay(store: ObjectStore): Promise<StoredObject[]> {
  const objects = new Map<string, StoredObject>();
  const newest = await store.revision();
  if (newest === 0) return [];
  const last = '~last';
  await store.transaction([], [{ type: 'put', key: last, value: null }]);
  for await (const event of store.watch('', 0, AbortSignal.timeout(5_000))) {
    if (event.type === 'delete') objects.delete(event.key);
    else if (event.object.key === last) return keys.flatMap(name => objects.get(name) ?? []);
    else objects.set(event.object.key, event.object);
  }
  throw new Error('the events ended before the last one came');
}

/** Random transactions give the answers and the state of a plain model, on every store alike. */
export function objectStoreModelSuite(open: OpenStore): void {
  it('answers random transactions as the model does, and its events add up to its state', async () => {
    const property = fc.asyncProperty(fc.array(request, { maxLength: 15 }), async requests => {
      const world = await open();
      try {
        const model = await run(world.store, requests);
        expect(await world.store.list('')).to.deep.equal(model.list());
        expect(await world.store.list('a/')).to.deep.equal(model.list('a/'));
        expect(await replay(world.store)).to.deep.equal(model.list());
      } finally {
        await world.store.close();
        world.remove();
      }
    });
    await fc.assert(property, { numRuns: times(60, 1_000) });
  });
}

async function run(store: ObjectStore, requests: readonly Request[]): Promise<Model> {
  const model = new Model();
  for (const { compares, changes } of requests) {
    const resolved = compares.map(({ key, kind }) => ({ key, revision: revisionFor(model, key, kind) }));
    const answer = await store
      .transaction(resolved, changes)
      .catch((error: { code?: unknown }) => error.code);
    expect(answer).to.equal(model.transaction(resolved, changes));
    expect(await store.revision()).to.equal(model.revision);
  }
  return model;
}

function revisionFor(model: Model, key: string, kind: 'right' | 'absent' | 'stale'): number {
  const current = model.objects.get(key)?.revision ?? 0;
  if (kind === 'right') return current;
  return kind === 'absent' ? 0 : Math.max(0, current - 1);
}
