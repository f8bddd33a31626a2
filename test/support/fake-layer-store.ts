import type { InspectedStore } from '../../src/core/layers/inspector.ts';
import type {
  Applied,
  ApplyWork,
  Archive,
  LayerChange,
  LayerInfo,
  LongWork,
  Verification,
} from '../../src/core/layers/layer-store.ts';
import type { StrayView } from '../../src/core/layers/view.ts';
import type { MountSource } from '../../src/core/mount.ts';
import type { Usage } from '../../src/core/ports.ts';
import { AlreadyExists, FailedPrecondition, InvalidArgument, NotFound } from '../../src/errors/errors.ts';

/** A layer store without a disk, for what looks at one: layers are records, and archives are only read. */
export class FakeLayerStore implements InspectedStore {
  readonly driver = 'overlay';
  readonly root: string;
  readonly infos = new Map<string, LayerInfo>();
  /** Of active layers. */
  readonly usages = new Map<string, Usage>();
  found: StrayView[] = [];
  /** Trash that cannot be deleted. */
  inUse: readonly number[] = [];
  /** What `apply` read. */
  readonly applied: Buffer[] = [];
  /** Whether it was told to keep the last archive. */
  keptOriginal = false;
  /** Runs in `apply` after the first piece. */
  onApply: (key: string) => Promise<void> = async () => undefined;
  onVerify: (work: LongWork) => Promise<Verification> = async () => verification;
  diffPieces: () => AsyncIterable<Uint8Array> = async function* () {
    yield Buffer.from('archive');
  };
  originalPieces: () => AsyncIterable<Uint8Array> = async function* () {
    yield Buffer.from('original');
  };
  onDiff: (work: LongWork) => void = () => undefined;
  changed: readonly LayerChange[] = [];
  /** What `diff` and `changes` were asked. */
  readonly compared: (readonly [base: string | null, key: string])[] = [];
  #number = 0;

  constructor(root = '/layers') {
    this.root = root;
  }

  /** Adds a layer as it is. */
  add(name: string, info: Partial<LayerInfo> = {}): void {
    this.infos.set(name, {
      ...{ name, kind: 'committed', parent: null, labels: {}, number: ++this.#number, limit: null },
      ...{ createdAt: '2026-01-02T03:04:05Z', updatedAt: '2026-01-02T03:04:05Z' },
      ...{ usage: { bytes: 1000, inodes: 1 }, diffId: null, damage: null },
      ...info,
    });
  }

  async prepare(
    key: string,
    options: { readonly parent?: string; readonly labels?: Readonly<Record<string, string>> } = {},
  ): Promise<readonly MountSource[]> {
    if (this.infos.has(key)) throw new AlreadyExists(`${key} is taken`);
    const { parent = null, labels = {} } = options;
    if (parent !== null && (await this.stat(parent)).kind !== 'committed')
      throw new InvalidArgument(`${parent} is not committed`);
    this.add(key, { kind: 'active', parent, labels, usage: null });
    return [];
  }

  async apply(
    key: string,
    archive: Archive,
    { signal, onProgress, keepOriginal = false }: ApplyWork = {},
  ): Promise<Applied> {
    this.keptOriginal = keepOriginal;
    if ('path' in archive) throw new Error('this fake reads no files');
    const pieces: Buffer[] = [];
    for await (const piece of archive) {
      if (pieces.length === 0) await this.onApply(key);
      signal?.throwIfAborted();
      pieces.push(Buffer.from(piece));
      onProgress?.({ doneBytes: pieces.length, totalBytes: 0 });
    }
    const whole = Buffer.concat(pieces);
    if (whole.toString() === 'broken') throw new InvalidArgument('the archive is broken at byte 3');
    this.applied.push(whole);
    return { diffId: `sha256:${'d'.repeat(64)}`, size: whole.length, bytes: whole.length, entries: 1 };
  }

  async commit(name: string, key: string): Promise<void> {
    if (this.infos.has(name)) throw new AlreadyExists(`${name} is taken`);
    const { parent } = await this.stat(key);
    this.infos.delete(key);
    this.add(name, { parent });
  }

  async remove(key: string): Promise<void> {
    const { number } = await this.stat(key);
    const above = [...this.infos.values()].find(({ parent }) => parent === key);
    if (above !== undefined) throw new FailedPrecondition(`${above.name} rests on ${key}`);
    this.infos.delete(key);
    this.found.push(trash(number, 10, key));
  }

  async stat(key: string): Promise<LayerInfo> {
    const info = this.infos.get(key);
    if (info === undefined) throw new NotFound(`no ${key}`);
    return info;
  }

  async *walk(filters: readonly string[] = []): AsyncIterable<LayerInfo> {
    for (const info of this.infos.values())
      if (filters.length === 0 || filters.some(f => fits(info, f))) yield info;
  }

  async usage(key: string): Promise<Usage> {
    await this.stat(key);
    return this.usages.get(key) ?? { bytes: 0, inodes: 1 };
  }

  async cleanup(): Promise<{ readonly left: number }> {
    this.found = this.found.filter(({ kind, number }) => kind !== 'trash' || this.inUse.includes(number));
    return { left: this.found.filter(({ kind }) => kind === 'trash').length };
  }

  async diff(base: string | null, key: string, work: LongWork = {}): Promise<AsyncIterable<Uint8Array>> {
    this.compared.push([base, key]);
    this.onDiff(work);
    return this.diffPieces();
  }

  async original(): Promise<AsyncIterable<Uint8Array>> {
    return this.originalPieces();
  }

  async changes(base: string | null, key: string): Promise<readonly LayerChange[]> {
    this.compared.push([base, key]);
    return this.changed;
  }

  async verify(name: string, work: LongWork = {}): Promise<Verification> {
    if ((await this.stat(name)).kind !== 'committed')
      throw new FailedPrecondition(`${name} is not committed`);
    return this.onVerify(work);
  }

  async strays(): Promise<readonly StrayView[]> {
    return this.found;
  }

  view = notFaked;
  mounts = notFaked;
  layerOf = () => undefined;
  sync = notFaked;
  freeze = notFaked;
  merge = notFaked;
  update = notFaked;
  close = async () => undefined;
}

/** A removed layer whose files are still there. */
export function trash(number: number, bytes: number, name: string | null = null): StrayView {
  return { kind: 'trash', number, name, usage: { bytes, inodes: 1 } };
}

export const verification: Verification = { verified: 3, recorded: 0, bytes: 4096, problems: [] };

async function notFaked(): Promise<never> {
  throw new Error('this fake does not do that');
}

/** As much of a filter as the tests need. */
function fits({ kind, labels }: LayerInfo, filter: string): boolean {
  return filter.split(',').every(part => {
    const label = /^labels\."(.+)"$/.exec(part)?.[1];
    return label === undefined ? part === `kind==${kind}` : label in labels;
  });
}
