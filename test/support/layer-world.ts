import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { LayerInfo, LayerStore, PrepareOptions } from '../../src/core/layers/layer-store.ts';
import type { MountSource } from '../../src/core/mount.ts';
import { change, chmod, readTree, type TreeChange } from './layer-tree.ts';

/** A layer store that can be closed and opened again over what is on its disk. */
export interface LayerRecordsWorld {
  readonly store: LayerStore;
  /** What the store cannot be asked in this world; nothing, unless it says so. */
  readonly lacks?: readonly (keyof LayerStore)[];
  /** As after a restart of the daemon; `store` is the new one then. */
  reopen(): Promise<LayerStore>;
  close(): Promise<void>;
}

/** The same, where layers can be mounted. */
export interface MountingWorld extends LayerRecordsWorld {
  /** The absolute path of the store's root. */
  readonly root: string;
  /** A directory, of another file system, for what a test makes beside the layers. */
  readonly scratch: string;
  /** Mounts a layer. @returns where */
  mount(sources: readonly MountSource[]): Promise<string>;
  unmount(path: string): Promise<void>;
}

/** The same, where the files of layers can be reached behind the back of the store. */
export interface LayerWorld extends MountingWorld {
  /** Changes the files of a committed layer behind the back of the store. @param act gets the path of its tree */
  tamper(name: string, act: (path: string) => void): Promise<void>;
  /** Bytes that are in use on the file system, everything written out. */
  usedBytes(): Promise<number>;
}

/** What one driver on one file system does otherwise than the others; tests say so in their titles, and check it. */
export interface LayerExceptions {
  /** Such as `overlay`. */
  readonly driver: string;
  readonly fileSystem: string;
  /** Whether a directory of a lower layer can be renamed, or ends in EXDEV, which programs answer by copying. */
  readonly renamesDirectories: boolean;
  /** What a write to one byte of a lower file costs, and a layer on top of another: the file, a block, a copy of all. */
  readonly copiesOnWrite: 'file' | 'block' | 'everything';
  /** Whether who has a lower file open for reading sees what is written to it from then on. */
  readonly openFilesSeeWrites: boolean;
  /** Whether a lower file's hard links stay one file when one is written to; `sometimes` depends on what was read first. */
  readonly keepsHardLinks: boolean | 'sometimes';
  /** Whether a file keeps its inode number when it is written to for the first time. */
  readonly keepsInodeNumbers: boolean;
  /** Whether the file of a unix socket in a lower layer can be deleted, or ends in ENXIO. */
  readonly deletesSockets: boolean;
  readonly limits: readonly ('bytes' | 'inodes')[];
  readonly freezesInUse: boolean;
  /** Whether a layer can be merged into one that is mounted. */
  readonly mergesInUse: boolean;
  /** Whether it is the driver's first file system: what needs no files is tested there only. */
  readonly isFirst: boolean;
  /** The most layers that can be mounted; null without a limit. */
  readonly highest: number | null;
  /** The most layers that can be tested in reasonable time. */
  readonly deepest: number;
}

/** All that comes. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** The names of the layers for which one of the filters holds, in the order of a walk. */
export async function namesIn(store: LayerStore, ...filters: readonly string[]): Promise<string[]> {
  return (await collect(store.walk(filters))).map(({ name }) => name);
}

/** Mounts, acts and unmounts. */
export async function withMount<T>(
  world: MountingWorld,
  sources: readonly MountSource[],
  act: (path: string) => T | Promise<T>,
): Promise<T> {
  const path = await world.mount(sources);
  try {
    return await act(path);
  } finally {
    await world.unmount(path);
  }
}

/** Makes a writable layer, with these changes in it. */
export async function prepare(
  world: MountingWorld,
  key: string,
  options: PrepareOptions & { readonly limit?: { readonly bytes: number } },
  changes: readonly TreeChange[] = [],
): Promise<void> {
  const sources = await world.store.prepare(key, options);
  if (changes.length > 0) await withMount(world, sources, path => change(path, changes));
}

/** Changes a writable layer. */
export async function write(
  world: MountingWorld,
  key: string,
  changes: readonly TreeChange[],
): Promise<void> {
  await withMount(world, await world.store.mounts(key), path => change(path, changes));
}

/** Makes a committed layer of these changes. Tests do not ask it to survive a power cut. */
export async function commit(
  world: MountingWorld,
  name: string,
  parent: string | undefined,
  changes: readonly TreeChange[] = [],
): Promise<LayerInfo> {
  await prepare(world, `${name} in the making`, parent === undefined ? {} : { parent }, changes);
  await world.store.commit(name, `${name} in the making`, { sync: false });
  return await world.store.stat(name);
}

/** What is in a layer, as its container or a view of it sees it. */
export async function contents(
  world: MountingWorld,
  name: string,
  options?: { readonly times: boolean },
): Promise<readonly string[]> {
  const { kind } = await world.store.stat(name);
  if (kind !== 'committed') {
    return withMount(world, await world.store.mounts(name), path => readTree(path, options));
  }
  const key = `view of ${name}`;
  const sources = await world.store.view(key, { parent: name });
  try {
    return await withMount(world, sources, path => readTree(path, options));
  } finally {
    await world.store.remove(key);
  }
}

/** What is in a plain directory after these changes. */
export function flat(
  world: MountingWorld,
  ...changes: readonly (readonly TreeChange[])[]
): readonly string[] {
  const path = mkdtempSync(join(world.scratch, 'flat-'));
  change(path, [chmod('', 0o755), ...changes.flat()]);
  return readTree(path);
}
