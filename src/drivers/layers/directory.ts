import type {
  FoundLayers,
  LayerAbilities,
  LayerDisk,
  PlacedLayer,
  Stack,
  Stray,
} from '../../core/layers/layer-disk.ts';
import type {
  Applied,
  ApplyWork,
  Archive,
  LayerChange,
  LayerKind,
  Limit,
  LongWork,
  Verification,
} from '../../core/layers/layer-store.ts';
import type { LayerManifest } from '../../core/layers/record.ts';
import type { MountSource } from '../../core/mount.ts';
import type { LayerNumber, LayerStoreName } from '../../core/names.ts';
import type { Directory, Disk, Durability, Usage } from '../../core/ports.ts';
import { NotFound } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import type { Archiver, DiffStream, View } from './archive/archiver.ts';
import { closeAll, closing, openComparison } from './comparison.ts';
import { openDirectoryView } from './directory-view.ts';
import { DiskSync } from './disk-sync.ts';
import type { LayerDriver } from './driver.ts';
import { foundIn } from './found.ts';
import { readManifest } from './manifest.ts';
import { type LayerStoreIdentity, markerFile, openRoot, requireIdentity } from './marker.ts';
import { linkOriginal, openOriginal, originalOf } from './original.ts';
import { SharedSync } from './shared-sync.ts';
import { shownLayers } from './shown.ts';
import { moveToTrash, type Trashed, trashIn } from './trash.ts';
import { Uses } from './uses.ts';

/** Layers of which it is looked up at one time whether they are in their place. */
const lookedAtOnce = 64;

export interface LayerDirectoryParts {
  readonly name: LayerStoreName;
  readonly root: string;
  readonly identity: LayerStoreIdentity;
  readonly disk: Disk;
  readonly driver: LayerDriver;
  readonly archiver: Archiver;
}

/**
 * A directory that holds the layers of one store, whatever its driver: `<root>/NUMBER/` with `layer.json`, `digests`,
 * perhaps `original`, and the driver's files; `new-NUMBER` while it is made; `trash/`. Only the last two kinds of
 * names are ever deleted.
 *
 * Once data could not be brought to the disk, `sync` fails until the directory is opened anew ({@link DiskSync}).
 */
export class LayerDirectory implements LayerDisk {
  readonly driver: string;
  readonly root: string;
  readonly abilities: LayerAbilities;
  readonly #parts: LayerDirectoryParts;
  readonly #driver: LayerDriver;
  readonly #sync: DiskSync;
  readonly #entries = new SharedSync(() => this.#within(root => root.sync()));
  readonly #uses = new Uses();
  #verifiedMarker: string | undefined;

  constructor(parts: LayerDirectoryParts) {
    this.#parts = parts;
    this.#driver = parts.driver;
    this.root = parts.root;
    this.driver = parts.driver.name;
    this.abilities = parts.driver.abilities;
    this.#sync = new DiskSync(parts.root);
  }

  draft([number, ...below]: Stack, manifest: LayerManifest): Promise<void> {
    return this.#using(below, async root => {
      // What is made here reaches the disk by one sync: of several drafts that are made at one time, too.
      await this.#makeDraft(root, number);
      const kind = manifest.kind === 'view' ? 'view' : 'active';
      await step('layer.make', () =>
        this.#driver.make(this.#draftPath(number), stackOf(below), { kind, limit: manifest.limit }),
      );
      await this.#writeManifest(root, draftOf(number), manifest, { durable: false });
      await this.#entries.run();
    });
  }

  place(stack: Stack, kind: LayerKind): Promise<void> {
    return this.#within(root => this.#place(root, stack, kind));
  }

  placeAll(layers: readonly PlacedLayer[]): Promise<ReadonlyMap<LayerNumber, Error>> {
    return this.#within(async root => {
      const there = new Set(await root.list('.'));
      const isPlaced = async ({ stack, kind }: PlacedLayer) =>
        there.has(String(stack[0])) && (await this.#driver.isPlaced(stack, kind).catch(() => false));
      const failures = new Map<LayerNumber, Error>();
      for (let at = 0; at < layers.length; at += lookedAtOnce) {
        const some = layers.slice(at, at + lookedAtOnce);
        const arePlaced = await Promise.all(some.map(isPlaced));
        for (const { stack, kind } of some.filter((_, index) => !arePlaced[index])) {
          await this.#place(root, stack, kind).catch((error: Error) => failures.set(stack[0], error));
        }
      }
      return failures;
    });
  }

  mounts(stack: Stack, kind: LayerKind): Promise<readonly MountSource[]> {
    return this.#within(() => this.#driver.mounts(stack, kind));
  }

  shown(mounts: readonly MountSource[]): Stack | undefined {
    return shownLayers(this.root, mounts);
  }

  seal(stack: Stack): Promise<Usage> {
    return this.#using(stack, async () => {
      await step('layer.seal', () => this.#driver.seal(stack));
      return await this.#driver.usage(stack);
    });
  }

  sync(): Promise<void> {
    return this.#within(() => this.#sync.run());
  }

  freeze(stack: Stack, next: LayerNumber, limit: Limit | null): Promise<'frozen' | 'writable'> {
    return this.#using(stack, async root => {
      await this.#makeDraft(root, next);
      return await step('layer.freeze', async () => {
        const made = await this.#driver.freeze(stack, this.#draftPath(next), limit);
        if (made === 'frozen') await linkOriginal(`${this.root}/${stack[0]}`, this.#draftPath(next));
        return made;
      });
    });
  }

  limit(stack: Stack, limit: Limit): Promise<void> {
    return this.#using(stack, () => this.#driver.limit(stack, limit));
  }

  merge(stack: Stack, next: LayerNumber): Promise<boolean> {
    return this.#using(stack, async root => {
      await this.#makeDraft(root, next);
      const isMade = await step('layer.merge', () => this.#driver.merge(stack, this.#draftPath(next)));
      if (!isMade) await this.#delete(draftOf(next));
      return isMade;
    });
  }

  writeManifest(manifest: LayerManifest, options?: Durability): Promise<void> {
    return this.#within(async root => {
      const { number } = manifest;
      const isPlaced = await root.exists(String(number));
      await this.#writeManifest(root, isPlaced ? String(number) : draftOf(number), manifest, options);
    });
  }

  readManifest(number: LayerNumber): Promise<LayerManifest | { readonly unreadable: string }> {
    return this.#within(root => readManifest(root, String(number), number));
  }

  remove(number: LayerNumber): Promise<void> {
    return this.#within(async root => {
      for (const name of [String(number), draftOf(number)]) {
        if (await root.exists(name)) await moveToTrash(root, name);
      }
    });
  }

  dropDraft(number: LayerNumber): Promise<void> {
    return this.#within(() => this.#delete(draftOf(number)));
  }

  emptyTrash(): Promise<number> {
    return this.#within(async root => {
      const trashed = await trashIn(root);
      if (trashed.length === 0) return 0;
      const used = await this.#driver.inUse([...new Set(trashed.map(({ number }) => number))]);
      let left = 0;
      for (const entry of trashed) {
        if (used.has(entry.number) || !(await this.#emptied(entry))) left += 1;
      }
      return left;
    });
  }

  strays(unrecorded: readonly LayerNumber[], signal?: AbortSignal): Promise<readonly Stray[]> {
    return this.#within(async root => {
      const candidates = [
        ...(await trashIn(root)).map(entry => ({ kind: 'trash', ...entry }) as const),
        ...(await this.found()).drafts.map(
          number => ({ kind: 'draft', path: draftOf(number), number }) as const,
        ),
        ...unrecorded.map(number => ({ kind: 'unrecorded', path: String(number), number }) as const),
      ];
      const strays: Stray[] = [];
      for (const candidate of candidates) {
        const stray = await this.#stray(root, candidate, signal);
        if (stray !== undefined) strays.push(stray);
      }
      return strays;
    });
  }

  found(): Promise<FoundLayers> {
    return this.#within(foundIn);
  }

  apply(stack: Stack, archive: Archive, work: ApplyWork): Promise<Applied> {
    return this.#using(stack, async () => {
      const tree = await this.#driver.open(stack);
      return await closing([tree], () =>
        step('layer.apply', () => this.#parts.archiver.apply(tree, archive, work)),
      );
    });
  }

  original(stack: Stack, diffId: string, work: LongWork): Promise<AsyncIterable<Uint8Array>> {
    return this.#streaming(stack, async () => {
      const tree = await this.#driver.open(stack);
      const original = await openOriginal(tree);
      const start = () => this.#parts.archiver.original({ tree, original }, diffId, work);
      return { open: [original, tree], start };
    });
  }

  dropOriginal(number: LayerNumber): Promise<void> {
    return this.#within(root => step('layer.drop-original', () => root.removeTree(originalOf(number))));
  }

  diff(before: Stack | null, after: Stack, work: LongWork): Promise<AsyncIterable<Uint8Array>> {
    return this.#streaming([...(before ?? []), ...after], async () => {
      const { comparison, open } = await openComparison(this.#driver, before, after);
      return { open, start: () => this.#parts.archiver.diff(comparison, work) };
    });
  }

  changes(before: Stack | null, after: Stack, work: LongWork): Promise<readonly LayerChange[]> {
    return this.#using([...(before ?? []), ...after], async () => {
      const { comparison, open } = await openComparison(this.#driver, before, after);
      return await closing(open, () => this.#parts.archiver.changes(comparison, work));
    });
  }

  usage(stack: Stack, signal?: AbortSignal): Promise<Usage> {
    return this.#using(stack, () => this.#driver.usage(stack, signal));
  }

  verify(stack: Stack, committedAt: string, work: LongWork): Promise<Verification> {
    return this.#using(stack, async () => {
      const tree = await this.#driver.open(stack);
      const [, ...below] = stack;
      const inherited =
        tree.form.type === 'whole' ? below.map(number => `${this.root}/${number}/digests`) : [];
      return await closing([tree], () => this.#parts.archiver.verify(tree, inherited, committedAt, work));
    });
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.#within(root => root.space());
  }

  close(): Promise<void> {
    return this.#driver.close();
  }

  /** As `#within`; what is in the trash of these layers stays as long as that takes. */
  async #using<T>(numbers: readonly LayerNumber[], act: (root: Directory) => Promise<T>): Promise<T> {
    const end = this.#uses.begin(numbers);
    try {
      return await this.#within(act);
    } finally {
      end();
    }
  }

  /** As `#using`, until the archive is written; what was opened for it is closed then. */
  async #streaming(
    numbers: readonly LayerNumber[],
    prepare: () => Promise<{ readonly open: readonly View[]; start(): DiffStream }>,
  ): Promise<AsyncIterable<Uint8Array>> {
    const end = this.#uses.begin(numbers);
    try {
      return await this.#within(async () => {
        const { open, start } = await prepare();
        try {
          const { bytes, ended } = start();
          void ended.then(() => closeAll(open)).then(end, end);
          return bytes;
        } catch (error) {
          await closeAll(open);
          throw error;
        }
      });
    } catch (error) {
      end();
      throw error;
    }
  }

  /** Opens the root for one operation, as pools do: what is kept open keeps a disk from being unmounted. */
  async #within<T>(act: (root: Directory) => Promise<T>): Promise<T> {
    const { name, disk, identity } = this.#parts;
    const root = await openRoot(disk, name, this.root);
    try {
      const marker = await root.fingerprint(markerFile);
      if (marker === undefined || marker !== this.#verifiedMarker)
        await requireIdentity(root, name, identity);
      this.#verifiedMarker = marker;
      return await act(root);
    } finally {
      await root.close();
    }
  }

  async #place(root: Directory, stack: Stack, kind: LayerKind): Promise<void> {
    const [number] = stack;
    if (!(await root.exists(String(number)))) {
      if (!(await root.exists(draftOf(number)))) {
        throw new NotFound(`its directory ${this.root}/${number} is missing`);
      }
      // Not durable: whenever it is lost, the next start does it again.
      await step('layer.place', () => root.rename(draftOf(number), String(number), { durable: false }));
    }
    await step('layer.placed', () => this.#driver.placed(stack, kind));
  }

  /** @returns undefined for one that is gone, or goes while it is measured */
  async #stray(
    root: Directory,
    { kind, path, number }: Trashed & Pick<Stray, 'kind'>,
    signal: AbortSignal | undefined,
  ): Promise<Stray | undefined> {
    try {
      const manifest = await readManifest(root, path, number);
      const name = 'unreadable' in manifest ? null : manifest.name;
      const view = await openDirectoryView(`${this.root}/${path}`);
      const usage = await closing([view], () => this.#parts.archiver.measure(view, signal));
      return { kind, number, name, usage };
    } catch (error) {
      if (error instanceof NotFound || !(await root.exists(path))) return undefined;
      throw error;
    }
  }

  /** The caller brings it to the disk. */
  async #makeDraft(root: Directory, number: LayerNumber): Promise<void> {
    if (await root.exists(draftOf(number))) await this.#delete(draftOf(number));
    const options = { mode: 0o700, durable: false };
    await step('layer.draft', () => root.makeDirectory(draftOf(number), options));
  }

  #draftPath(number: LayerNumber): string {
    return `${this.root}/${draftOf(number)}`;
  }

  async #writeManifest(
    root: Directory,
    directory: string,
    manifest: LayerManifest,
    options?: Durability,
  ): Promise<void> {
    const text = `${JSON.stringify(manifest, null, 2)}\n`;
    await step('layer.manifest', () => root.writeFile(`${directory}/layer.json`, text, options));
  }

  async #delete(path: string): Promise<void> {
    await step('layer.delete', () => this.#driver.delete(`${this.root}/${path}`));
  }

  /** @returns whether it is gone; what is in use, or cannot be deleted, is left for later and keeps no other one */
  async #emptied({ path, number }: Trashed): Promise<boolean> {
    if (this.#uses.has(number)) return false;
    return await this.#delete(path).then(
      () => true,
      () => false,
    );
  }
}

function draftOf(number: LayerNumber): string {
  return `new-${number}`;
}

function stackOf(numbers: readonly LayerNumber[]): Stack | null {
  const [top, ...below] = numbers;
  return top === undefined ? null : [top, ...below];
}
