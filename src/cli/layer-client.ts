import type { LayerChange, Verification } from '../core/layers/layer-store.ts';
import type { Collected, LayerDetails, LayerView, ListedLayer, StoreSpace } from '../core/layers/view.ts';
import type { CopyProgress } from '../core/ports.ts';
import { Internal, InvalidArgument } from '../errors/errors.ts';
import { type Connection, errorOf } from './http.ts';

/** Which store; without one, all of them, or the one that has the layer. */
export interface InStore {
  readonly store?: string | undefined;
}

/** What a layer is compared with: its parent unless another one is named, nothing when that is empty. */
export interface AgainstBase extends InStore {
  readonly base?: string | undefined;
}

export interface LayerImport extends InStore {
  readonly name?: string | undefined;
  readonly parent?: string | undefined;
}

/** The part of the admin API that is about layers. A name may be the beginning of one. */
export interface LayerClient {
  list(options?: InStore & { readonly filters?: readonly string[] }): Promise<readonly ListedLayer[]>;
  details(name: string, options?: InStore): Promise<LayerDetails>;
  remove(name: string, options?: InStore): Promise<void>;
  space(options?: InStore): Promise<readonly StoreSpace[]>;
  collect(options: InStore & { readonly dryRun: boolean }): Promise<Collected>;
  verify(name: string, options: InStore, onProgress: (progress: CopyProgress) => void): Promise<Verification>;
  changes(name: string, options?: AgainstBase): Promise<readonly LayerChange[]>;
  /** An uncompressed archive; it throws when it breaks off. */
  export(name: string, options?: AgainstBase): Promise<AsyncIterable<Uint8Array>>;
  /** The archive that the layer was made of, uncompressed; it throws as `export` does. */
  original(name: string, options?: InStore): Promise<AsyncIterable<Uint8Array>>;
  import(archive: AsyncIterable<Uint8Array>, options?: LayerImport): Promise<LayerView>;
}

export function layerClient({ call, stream }: Connection): LayerClient {
  const at = (name: string, rest: string, { store, base }: AgainstBase = {}) =>
    `/v1/layers/${encodeURIComponent(named(name))}${rest}${query({ store, base })}`;
  return {
    list: ({ store, filters = [] } = {}) => call('GET', `/v1/layers${query({ store, filter: filters })}`),
    details: async (name, options) => call('GET', at(name, '', options)),
    remove: async (name, options) => call('DELETE', at(name, '', options)),
    space: ({ store } = {}) => call('GET', `/v1/layers-usage${query({ store })}`, { isSlow: true }),
    collect: ({ store, dryRun }) =>
      call('POST', `/v1/layers-gc${query({ store, dryRun: String(dryRun) })}`, { isSlow: true }),
    verify: async (name, { store }, onProgress) =>
      outcome(await stream('POST', at(name, '/verify', { store })), onProgress),
    changes: async (name, options) => call('GET', at(name, '/changes', options), { isSlow: true }),
    export: async (name, options) => stream('GET', at(name, '/diff', options)),
    original: async (name, options) => stream('GET', at(name, '/original', options)),
    import: async (archive, { store, name, parent } = {}) => {
      const answer = await stream('POST', `/v1/layers${query({ store, name, parent })}`, archive);
      return JSON.parse(await textOf(answer)) as LayerView;
    },
  };
}

/** Without a name the path is that of the list. */
function named(name: string): string {
  if (name !== '') return name;
  throw new InvalidArgument('the name of the layer is empty; `varve layer ls` shows those there are');
}

function query(values: Readonly<Record<string, string | readonly string[] | undefined>>): string {
  const pairs = Object.entries(values).flatMap(([name, value = []]) =>
    (typeof value === 'string' ? [value] : value).map(text => `${name}=${encodeURIComponent(text)}`),
  );
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`;
}

async function textOf(answer: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(piece);
  return Buffer.concat(pieces).toString('utf8');
}

/** One line of an answer that says how far work is. */
interface Line<T> {
  readonly progress?: CopyProgress;
  readonly result?: T;
  readonly error?: unknown;
}

/** Reports each line of progress. @returns the result @throws the error that the daemon named */
async function outcome<T>(
  answer: AsyncIterable<Buffer>,
  onProgress: (progress: CopyProgress) => void,
): Promise<T> {
  for await (const text of linesOf(answer)) {
    const { progress, result, error } = JSON.parse(text) as Line<T>;
    if (progress !== undefined) onProgress(progress);
    if (result !== undefined) return result;
    const named = errorOf(error);
    if (named !== undefined) throw named;
  }
  throw new Internal(
    'the daemon ended an answer without a result; check with `varve status` that both have the same version',
  );
}

async function* linesOf(answer: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const piece of answer) {
    const lines = `${rest}${decoder.decode(piece, { stream: true })}`.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  if (rest !== '') yield rest;
}
