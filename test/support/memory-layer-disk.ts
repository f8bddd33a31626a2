import { createHash } from 'node:crypto';
import type {
  FoundLayers,
  LayerAbilities,
  LayerDisk,
  PlacedLayer,
  Stack,
  Stray,
} from '../../src/core/layers/layer-disk.ts';
import type {
  Applied,
  ApplyWork,
  Archive,
  LayerChange,
  LayerKind,
  Limit,
  Verification,
  VerificationProblem,
} from '../../src/core/layers/layer-store.ts';
import type { LayerManifest } from '../../src/core/layers/record.ts';
import type { MountSource } from '../../src/core/mount.ts';
import type { LayerNumber } from '../../src/core/names.ts';
import type { Usage } from '../../src/core/ports.ts';
import { shownLayers } from '../../src/drivers/layers/shown.ts';
import {
  Aborted,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
  Unimplemented,
} from '../../src/errors/errors.ts';

/** What a layer holds: the lines of the archives that were applied to it. */
interface Tree {
  readonly manifest: LayerManifest | undefined;
  readonly lines: readonly string[];
}

type Trees = Map<number, Tree>;

/** The line of an archive that breaks it. */
const brokenLine = 'broken';

/**
 * A disk of layers in memory, for tests of what is above it. An "archive" is text, and a layer holds its lines; a
 * mount is only data. What no caller may do fails with a plain Error.
 */
export class MemoryLayerDisk implements LayerDisk {
  readonly driver = 'memory';
  readonly root = '/layers';
  readonly abilities: LayerAbilities;
  /** What was asked for, in order, such as `draft 3 over 2,1`. */
  readonly asked: string[] = [];
  /** Layers that somebody has mounted. */
  readonly mounted = new Set<number>();
  /** What the next verification finds. */
  problems: readonly VerificationProblem[] = [];
  /** Whether a freeze puts the frozen layer at the new number, as where each tree holds all that is beneath too. */
  freezesAside = false;
  readonly #drafts: Trees = new Map();
  readonly #layers: Trees = new Map();
  readonly #trash: Trees = new Map();
  readonly #originals = new Map<number, Buffer>();

  constructor(abilities: Partial<LayerAbilities> = {}) {
    this.abilities = { limits: ['bytes'], snapshot: 'constant', freezesInUse: false, ...abilities };
  }

  async draft(stack: Stack, manifest: LayerManifest): Promise<void> {
    const [top, ...below] = stack;
    this.#ask(`draft ${top} over ${below.join()}`);
    for (const number of below) this.#layer(number);
    for (const what of Object.keys(manifest.limit ?? {})) {
      if (!this.abilities.limits.some(limit => limit === what)) {
        throw new Unimplemented(`a limit of ${what} cannot be kept in memory`);
      }
    }
    this.#begin(top, { manifest, lines: [] });
  }

  async place(stack: Stack, kind: LayerKind): Promise<void> {
    const [top] = stack;
    this.#ask(`place ${top} as ${kind}`);
    const draft = this.#drafts.get(top);
    if (draft !== undefined) {
      this.#layers.set(top, draft);
      this.#drafts.delete(top);
    }
    if (!this.#layers.has(top)) throw new NotFound(`there is no layer ${top} in memory`);
  }

  async placeAll(layers: readonly PlacedLayer[]): Promise<ReadonlyMap<LayerNumber, Error>> {
    const failures = new Map<LayerNumber, Error>();
    for (const { stack, kind } of layers) {
      await this.place(stack, kind).catch((error: Error) => failures.set(stack[0], error));
    }
    return failures;
  }

  async mounts(stack: Stack, kind: LayerKind): Promise<readonly MountSource[]> {
    for (const number of stack) this.#layer(number);
    const [top, ...below] = stack;
    if (below.length === 0) {
      return [{ type: 'bind', source: `${this.root}/${top}/fs`, readonly: kind !== 'active' }];
    }
    const lower = `lowerdir=${below.map(number => `${this.root}/${number}/fs`).join(':')}`;
    return [
      { type: 'overlay', options: kind === 'active' ? [lower, `upperdir=${this.root}/${top}/fs`] : [lower] },
    ];
  }

  shown(mounts: readonly MountSource[]): Stack | undefined {
    return shownLayers(this.root, mounts);
  }

  async seal(stack: Stack): Promise<Usage> {
    this.#ask(`seal ${stack.join()}`);
    return this.usage(stack);
  }

  async sync(): Promise<void> {
    this.#ask('sync');
  }

  async freeze(stack: Stack, next: LayerNumber, limit: Limit | null): Promise<'frozen' | 'writable'> {
    const [top] = stack;
    this.#ask(`freeze ${top} with ${next}${limit === null ? '' : ` limited to ${limit.bytes}`}`);
    const tree = this.#layer(top);
    if (this.mounted.has(top) && !this.abilities.freezesInUse) {
      throw new FailedPrecondition(`layer ${top} is mounted; unmount it first`);
    }
    const original = this.#originals.get(top);
    if (this.freezesAside && original !== undefined) this.#originals.set(next, original);
    this.#begin(next, this.freezesAside ? tree : { manifest: undefined, lines: [] });
    return this.freezesAside ? 'frozen' : 'writable';
  }

  async limit([top]: Stack, limit: Limit): Promise<void> {
    this.#ask(`limit ${top} to ${limit.bytes}`);
    this.#layer(top);
    if (!this.abilities.limits.includes('bytes')) throw new Unimplemented('no limit is kept in memory');
  }

  async merge(stack: Stack, next: LayerNumber): Promise<boolean> {
    const [top, folded] = stack;
    this.#ask(`merge ${folded} into ${top} as ${next}`);
    if (folded === undefined) throw new Error(`layer ${top} has nothing beneath to merge with`);
    const lines = [...this.#layer(folded).lines, ...this.#layer(top).lines];
    this.#begin(next, { manifest: undefined, lines });
    return true;
  }

  async writeManifest(manifest: LayerManifest): Promise<void> {
    const { number } = manifest;
    const trees = this.#drafts.has(number) ? this.#drafts : this.#layers;
    trees.set(number, { ...(trees.get(number) ?? this.#layer(number)), manifest });
  }

  async readManifest(number: LayerNumber): Promise<LayerManifest | { readonly unreadable: string }> {
    return this.#layer(number).manifest ?? { unreadable: 'layer.json is missing' };
  }

  async remove(number: LayerNumber): Promise<void> {
    this.#ask(`remove ${number}`);
    const tree = this.#layers.get(number) ?? this.#drafts.get(number);
    if (tree !== undefined) this.#trash.set(number, tree);
    this.#layers.delete(number);
    this.#drafts.delete(number);
  }

  async dropDraft(number: LayerNumber): Promise<void> {
    this.#ask(`drop draft ${number}`);
    this.#drafts.delete(number);
  }

  async emptyTrash(): Promise<number> {
    for (const number of this.#trash.keys()) if (!this.mounted.has(number)) this.#trash.delete(number);
    return this.#trash.size;
  }

  async strays(unrecorded: readonly LayerNumber[]): Promise<readonly Stray[]> {
    const stray = (kind: Stray['kind'], number: LayerNumber, tree: Tree): Stray => {
      return { kind, number, name: tree.manifest?.name ?? null, usage: usageOf(tree.lines) };
    };
    return [
      ...[...this.#trash].map(([number, tree]) => stray('trash', number as LayerNumber, tree)),
      ...[...this.#drafts].map(([number, tree]) => stray('draft', number as LayerNumber, tree)),
      ...unrecorded.map(number => stray('unrecorded', number, this.#layer(number))),
    ];
  }

  async found(): Promise<FoundLayers> {
    return {
      layers: numbersOf(this.#layers),
      drafts: numbersOf(this.#drafts),
      removed: numbersOf(this.#trash),
    };
  }

  async apply(stack: Stack, archive: Archive, { signal, keepOriginal }: ApplyWork): Promise<Applied> {
    this.#ask(`apply to ${stack.join()}`);
    const [top] = stack;
    const bytes = await bytesOf(archive);
    const lines = bytes.toString().split('\n');
    const whole = lines.includes(brokenLine) ? lines.slice(0, lines.indexOf(brokenLine)) : lines;
    const tree = this.#layer(top);
    this.#layers.set(top, { ...tree, lines: [...tree.lines, ...whole] });
    if (signal?.aborted) throw new Aborted('the archive was cancelled');
    if (whole !== lines) throw new InvalidArgument(`the archive is broken at line ${whole.length + 1}`);
    if (keepOriginal === true) this.#originals.set(top, bytes);
    return {
      diffId: digestOf(bytes),
      size: bytes.length,
      bytes: bytes.length,
      entries: lines.length,
    };
  }

  async original([top]: Stack): Promise<AsyncIterable<Uint8Array>> {
    const original = this.#originals.get(top);
    if (original === undefined) throw new FailedPrecondition(`layer ${top} has no original`);
    return (async function* () {
      yield original;
    })();
  }

  async dropOriginal(number: LayerNumber): Promise<void> {
    this.#originals.delete(number);
  }

  async diff(before: Stack | null, after: Stack): Promise<AsyncIterable<Uint8Array>> {
    const archive = Buffer.from(this.#added(before, after).join('\n'));
    return (async function* () {
      yield archive;
    })();
  }

  async changes(before: Stack | null, after: Stack): Promise<readonly LayerChange[]> {
    return this.#added(before, after).map(line => ({ path: `/${line}`, kind: 'added', bytes: line.length }));
  }

  async usage(stack: Stack, signal?: AbortSignal): Promise<Usage> {
    signal?.throwIfAborted();
    const [top, ...below] = stack;
    const beneath = new Set(this.#linesOf(below));
    return usageOf(this.#layer(top).lines.filter(line => !beneath.has(line)));
  }

  async verify(stack: Stack): Promise<Verification> {
    const { lines } = this.#layer(stack[0]);
    return { verified: lines.length, recorded: 0, bytes: lines.join('').length, problems: this.problems };
  }

  async space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return { freeBytes: 1_000_000, totalBytes: 2_000_000 };
  }

  async close(): Promise<void> {}

  /** What a container would see, from the bottom up. */
  visible(stack: Stack): readonly string[] {
    return [...new Set(this.#linesOf(stack))];
  }

  #linesOf(numbers: readonly LayerNumber[]): readonly string[] {
    return numbers.toReversed().flatMap(number => this.#layer(number).lines);
  }

  #added(before: Stack | null, after: Stack): readonly string[] {
    const old = new Set(before === null ? [] : this.visible(before));
    return this.visible(after).filter(line => !old.has(line));
  }

  #begin(number: number, tree: Tree): void {
    if (this.#layers.has(number)) throw new Error(`there is a layer ${number} already`);
    this.#drafts.set(number, tree);
  }

  #layer(number: number): Tree {
    const tree = this.#layers.get(number);
    if (tree !== undefined) return tree;
    throw new Error(`there is no layer ${number} in its place`);
  }

  #ask(what: string): void {
    this.asked.push(what);
  }
}

function numbersOf(trees: Trees): readonly LayerNumber[] {
  return ([...trees.keys()] as LayerNumber[]).sort((a, b) => a - b);
}

function usageOf(lines: readonly string[]): Usage {
  return { bytes: lines.reduce((sum, line) => sum + line.length, 0), inodes: lines.length + 1 };
}

async function bytesOf(archive: Archive): Promise<Buffer> {
  if ('path' in archive) throw new Error(`there is no file ${archive.path} in memory`);
  const pieces: Uint8Array[] = [];
  for await (const piece of archive) pieces.push(piece);
  return Buffer.concat(pieces);
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
