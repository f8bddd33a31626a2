import { FailedPrecondition, InvalidArgument } from '../../errors/errors.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import { inTurns } from '../../lib/turn.ts';
import type { MountSource } from '../mount.ts';
import { type LayerKey, parseLayerKey, show } from '../names.ts';
import type { Usage } from '../ports.ts';
import type { LayerCatalog } from './catalog.ts';
import { LayerContents, requireSound } from './contents.ts';
import { parseFilters } from './filter.ts';
import { labelsAfter, parseLabels } from './labels.ts';
import type { LayerDisk, Stray } from './layer-disk.ts';
import type {
  Applied,
  ApplyWork,
  Archive,
  Cleaned,
  CommitOptions,
  LayerChange,
  LayerInfo,
  LayerStore,
  Limit,
  LongWork,
  PrepareOptions,
  Verification,
} from './layer-store.ts';
import { infoOf, type LayerRecord, manifestOf } from './record.ts';
import { freezeLayer, limitLayer, mergeLayer, onlyChildOf } from './reshape.ts';
import { type LayerParts, LayerSteps, unwritten } from './steps.ts';

/** How long a call waits for another one on the same layer, in milliseconds. */
const patienceMs = 10_000;

/** The {@link LayerStore} over a disk. {@link openLayerStore} makes one. */
export class Layers implements LayerStore {
  readonly #catalog: LayerCatalog;
  readonly #disk: LayerDisk;
  readonly #parts: LayerParts;
  readonly #steps: LayerSteps;
  readonly #contents: LayerContents;
  readonly #locks = new KeyedLock<LayerKey>();
  #cleaning: Promise<Cleaned> | undefined;

  constructor(parts: LayerParts) {
    this.#parts = parts;
    this.#catalog = parts.catalog;
    this.#disk = parts.disk;
    this.#steps = new LayerSteps(parts);
    this.#contents = new LayerContents(this.#steps);
  }

  get driver(): string {
    return this.#disk.driver;
  }

  get root(): string {
    return this.#disk.root;
  }

  /** What the disk holds besides the layers: see {@link LayerDisk.strays}. */
  strays(signal?: AbortSignal): Promise<readonly Stray[]> {
    return this.#disk.strays(this.#parts.unrecorded, signal);
  }

  space(): ReturnType<LayerDisk['space']> {
    return this.#disk.space();
  }

  async prepare(
    key: string,
    options: PrepareOptions & { readonly limit?: Limit } = {},
  ): Promise<readonly MountSource[]> {
    return await this.#make(
      'active',
      key,
      options,
      options.limit === undefined ? null : requireLimit(options.limit),
    );
  }

  view(key: string, options: PrepareOptions = {}): Promise<readonly MountSource[]> {
    return this.#make('view', key, options, null);
  }

  async mounts(key: string): Promise<readonly MountSource[]> {
    const record = requireSound(this.#catalog, parseLayerKey(key));
    if (record.kind !== 'committed') return await this.#steps.mountsOf(record);
    throw new FailedPrecondition(`the layer ${show(key)} is committed; make a view of it to mount it`);
  }

  layerOf(mounts: readonly MountSource[]): LayerInfo | undefined {
    const shown = this.#disk.shown(mounts);
    const record = shown && this.#catalog.withNumber(shown[0]);
    if (record === undefined) return undefined;
    const isWhole = shown?.length === 1 || String(shown) === String(this.#catalog.stackOf(record));
    return isWhole ? this.#info(record) : undefined;
  }

  commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    return this.#withActive(key, 'commit', record =>
      this.#catalog.claiming(parseLayerKey(name), record.parent, async () => {
        const labels = parseLabels(options.labels);
        await this.#commit(parseLayerKey(name), record, { ...options, labels });
      }),
    );
  }

  sync(): Promise<void> {
    return this.#steps.sync();
  }

  freeze(key: string, name: string): Promise<void> {
    return this.#withActive(key, 'freeze', record => {
      const frozen = parseLayerKey(name);
      return this.#catalog.claiming(frozen, record.parent, () => freezeLayer(this.#steps, record, frozen));
    });
  }

  /**
   * Limits an active layer from now on, also while it is in use, in place of the limit that it has.
   * @throws InvalidArgument; Unimplemented when the driver cannot keep it; Unavailable when it cannot yet
   */
  limit(key: string, limit: Limit): Promise<void> {
    return this.#withActive(key, 'limit', record => limitLayer(this.#steps, record, requireLimit(limit)));
  }

  async merge(name: string): Promise<void> {
    const removed = parseLayerKey(name);
    const child = onlyChildOf(this.#catalog, removed);
    await this.#locks.with(child, patienceMs, () =>
      this.#catalog.changing([removed, child], () => mergeLayer(this.#steps, removed, child)),
    );
  }

  async remove(key: string): Promise<void> {
    const name = parseLayerKey(key);
    await this.#locks.with(name, patienceMs, async () => {
      const record = this.#catalog.get(name);
      const [child] = this.#catalog.childrenOf(name);
      if (child !== undefined) {
        throw new FailedPrecondition(
          `cannot remove ${show(key)}: ${show(child)} rests on it; remove that first`,
        );
      }
      await this.#catalog.changing([name], async () => {
        await this.#catalog.change({ delete: [record], trash: [record.number] });
        await this.#steps.discard([record.number]);
      });
    });
  }

  async stat(key: string): Promise<LayerInfo> {
    return this.#info(this.#catalog.get(parseLayerKey(key)));
  }

  async update(change: Pick<LayerInfo, 'name' | 'labels'>, mask?: readonly string[]): Promise<LayerInfo> {
    const name = parseLayerKey(change.name);
    return await this.#locks.with(name, patienceMs, async () => {
      const record = this.#catalog.get(name);
      const labels = parseLabels(labelsAfter(record.labels, change.labels, mask));
      const changed = { ...this.#steps.touched(record), labels };
      await this.#catalog.change({ put: [changed] });
      await this.#disk.writeManifest(manifestOf(changed));
      return this.#info(changed);
    });
  }

  async *walk(filters: readonly string[] = []): AsyncGenerator<LayerInfo> {
    const passes = parseFilters(filters);
    for await (const record of inTurns(this.#catalog.all())) {
      const info = this.#info(record);
      if (passes(info)) yield info;
    }
  }

  usage(key: string, signal?: AbortSignal): Promise<Usage> {
    return this.#contents.usage(parseLayerKey(key), signal);
  }

  /** Those who ask while it goes on share it. */
  cleanup(): Promise<Cleaned> {
    this.#cleaning ??= this.#clean().finally(() => {
      this.#cleaning = undefined;
    });
    return this.#cleaning;
  }

  async apply(key: string, archive: Archive, work: ApplyWork = {}): Promise<Applied> {
    const name = parseLayerKey(key);
    return await this.#locks.with(name, patienceMs, () => this.#contents.apply(name, archive, work));
  }

  async diff(base: string | null, key: string, work: LongWork = {}): Promise<AsyncIterable<Uint8Array>> {
    return await this.#contents.diff(parseBase(base), parseLayerKey(key), work);
  }

  async original(key: string, work: LongWork = {}): Promise<AsyncIterable<Uint8Array>> {
    return await this.#contents.original(parseLayerKey(key), work);
  }

  async changes(base: string | null, key: string, work: LongWork = {}): Promise<readonly LayerChange[]> {
    return await this.#contents.changes(parseBase(base), parseLayerKey(key), work);
  }

  async verify(name: string, work: LongWork = {}): Promise<Verification> {
    return await this.#contents.verify(parseLayerKey(name), work);
  }

  /** Brings to the disk what was left to a later {@link sync}. */
  async syncLeft(): Promise<void> {
    if (this.#catalog.all().some(({ unsyncedBoot }) => unsyncedBoot !== null)) await this.sync();
  }

  async close(): Promise<void> {
    try {
      await this.#cleaning?.catch(() => undefined);
      await this.syncLeft();
    } finally {
      await this.#disk.close();
    }
  }

  #info(record: LayerRecord): LayerInfo {
    return infoOf(record, this.#catalog.damageOf(record));
  }

  async #clean(): Promise<Cleaned> {
    await this.#steps.placeLeft();
    await this.#steps.discard(await this.#catalog.trash());
    return { left: await this.#disk.emptyTrash() };
  }

  async #make(
    kind: 'active' | 'view',
    rawKey: string,
    options: PrepareOptions,
    limit: Limit | null,
  ): Promise<readonly MountSource[]> {
    const name = parseLayerKey(rawKey);
    const parent = parseBase(options.parent ?? null);
    const labels = parseLabels(options.labels);
    const record = await this.#catalog.claiming(name, parent, async () => {
      if (parent !== null) requireSound(this.#catalog, parent);
      const now = this.#steps.now();
      const draft: LayerRecord = {
        ...{ name, kind, parent, labels, limit, createdAt: now, updatedAt: now },
        ...{ number: this.#catalog.nextNumber(), ...unwritten, damage: null },
      };
      const stack = this.#catalog.stackOf(draft);
      await this.#steps.drafting(draft.number, null, () => this.#disk.draft(stack, manifestOf(draft)));
      await this.#steps.record({ put: [draft] }, [{ record: draft, stack }]);
      return draft;
    });
    try {
      return await this.#steps.mountsOf(record);
    } catch (error) {
      // A stack that is too high shows only now.
      await this.remove(name);
      throw error;
    }
  }

  async #commit(name: LayerKey, record: LayerRecord, options: CommitOptions): Promise<void> {
    const stack = this.#catalog.stackOf(record);
    const committed = await this.#steps.drafting(null, record, async () => {
      const usage = await this.#disk.seal(stack);
      const sealed = { ...this.#steps.committed(name, record, options), usage };
      // Before the manifest: it writes that of the active layer anew.
      if ((options.sync ?? true) === true) await this.#steps.sync();
      await this.#disk.writeManifest(manifestOf(sealed));
      options.signal?.throwIfAborted();
      return sealed;
    });
    await this.#steps.record({ delete: [record], put: [committed] }, [{ record: committed, stack }]);
  }

  /** Does something to an active layer that is sound, under its lock. */
  async #withActive(key: string, verb: string, act: (record: LayerRecord) => Promise<void>): Promise<void> {
    const name = parseLayerKey(key);
    await this.#locks.with(name, patienceMs, async () => {
      const record = requireSound(this.#catalog, name);
      if (record.kind === 'active') return await act(record);
      throw new FailedPrecondition(
        `cannot ${verb} ${show(key)}: it is a ${record.kind} layer, not an active one`,
      );
    });
  }
}

function parseBase(raw: string | null): LayerKey | null {
  return raw === null || raw === '' ? null : parseLayerKey(raw);
}

/** @throws InvalidArgument */
function requireLimit(limit: Limit): Limit {
  for (const [what, value] of Object.entries(limit)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new InvalidArgument(`the limit of ${what} is ${value}; give a whole number greater than zero`);
    }
  }
  return limit;
}
