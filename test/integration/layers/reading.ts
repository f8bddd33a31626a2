import { createHash } from 'node:crypto';
import {
  type BigIntStats,
  chmodSync,
  closeSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must } from '../../../scripts/lib/process.ts';
import type { ComparisonArgs } from '../../../src/drivers/layers/archive/compare.ts';
import { changesTask, diffTask } from '../../../src/drivers/layers/archive/write.ts';
import { futimes, mkdirat } from '../../../src/host/linux/file-calls.ts';
import { TreeWalker } from '../../../src/host/linux/tree-walker.ts';
import { getXattr, listXattrs, removeXattr, setXattr } from '../../../src/host/linux/xattr-calls.ts';

export const quiet = { progress: () => {}, throwIfAborted: () => {} };

/** Directories, descriptors and mounts of one test. */
export class Workbench {
  readonly path = mkdtempSync(join(tmpdir(), 'varve-reading-'));
  readonly #open: number[] = [];
  readonly #mounted: string[] = [];

  directory(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  open(path: string): number {
    const fd = openSync(path, 'r');
    this.#open.push(fd);
    return fd;
  }

  /** Mounts `upper` over `lower` and returns where. */
  async overlay(lower: string, upper: string): Promise<string> {
    const [at, work] = [this.directory('merged'), this.directory('work')];
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},index=off,redirect_dir=off,metacopy=off,xino=off`;
    await must('mount', ['-t', 'overlay', 'overlay', '-o', options, at]);
    this.#mounted.push(at);
    return at;
  }

  closeFiles(): void {
    for (const fd of this.#open.splice(0)) closeSync(fd);
  }

  async close(): Promise<void> {
    this.closeFiles();
    for (const at of this.#mounted) await must('umount', [at]);
    // Deeper trees than node:fs can delete are among them.
    await must('rm', ['-rf', this.path]);
  }
}

/** The archive that a comparison gives. */
export function diffOf(comparison: ComparisonArgs, into: string): Buffer {
  const sink = openSync(into, 'w');
  try {
    diffTask({ comparison, sink }, quiet);
  } finally {
    closeSync(sink);
  }
  return readFileSync(into);
}

export function changesOf(comparison: ComparisonArgs): readonly string[] {
  const letters = { added: 'A', modified: 'M', deleted: 'D' };
  return changesTask({ comparison }, quiet).map(
    ({ path, kind, bytes }) => `${letters[kind]} ${path}${bytes === 0 ? '' : ` ${bytes}`}`,
  );
}

/** Extended attributes as `name=hex`. */
function xattrsOf(path: Buffer, except: string): readonly string[] {
  const slash = path.lastIndexOf('/');
  const directory = openSync(path.subarray(0, slash), 'r');
  const target = [directory, path.subarray(slash + 1)] as const;
  try {
    const names = listXattrs(target);
    if (typeof names === 'number') throw new Error(`listxattr ${path}: ${names}`);
    const own = names.filter(name => !name.startsWith(except));
    return [...own].sort().map(name => {
      const value = getXattr(target, name);
      return `${name}=${typeof value === 'number' ? `errno ${value}` : value.toString('hex')}`;
    });
  } finally {
    closeSync(directory);
  }
}

/** Everything there is to know of a tree, one line for each entry; the top's own mtime is left out. */
export function describeTree(top: string, except = 'trusted.overlay.'): readonly string[] {
  const links = new Map<string, string>();
  const describe = (path: string): readonly string[] => {
    const full = Buffer.from(path === '' ? top : `${top}/${path}`, 'latin1');
    const status = lstatSync(full, { bigint: true });
    const first = `${status.dev}:${status.ino}`;
    if (!status.isDirectory() && !links.has(first)) links.set(first, path);
    const words = [
      `/${path}`,
      (status.mode & 0o177777n).toString(8),
      `${status.uid}:${status.gid}`,
      path === '' ? '' : status.mtimeNs,
      ...xattrsOf(full, except),
      contentOf(full, status),
      status.isDirectory() ? '' : `first ${links.get(first)}`,
    ];
    const children = status.isDirectory() ? readdirSync(full, 'latin1').sort() : [];
    return [words.join(' '), ...children.flatMap(name => describe(path === '' ? name : `${path}/${name}`))];
  };
  return describe('');
}

function contentOf(path: Buffer, status: BigIntStats): string {
  if (status.isSymbolicLink()) return `to ${readlinkSync(path, 'latin1')}`;
  if (status.isFile()) return createHash('sha256').update(readFileSync(path)).digest('hex');
  return status.isDirectory() ? '' : `device ${status.rdev}`;
}

/** Extracts an archive with GNU tar, all attributes kept. */
export async function extract(archive: string, into: string): Promise<void> {
  await must('tar', ['--xattrs', '--xattrs-include=*', '--numeric-owner', '-xpf', archive, '-C', into]);
}

/** Applies a layer archive to a tree as the OCI image spec says, with GNU tar and none of our code. */
export async function applyWithTar(archive: string, tree: string): Promise<void> {
  const layer = mkdtempSync(join(tree, '..', 'layer-'));
  await extract(archive, layer);
  const { stdout } = await must('tar', ['--quoting-style=literal', '-tf', archive]);
  const names = new Set(stdout.split('\n').map(name => name.replace(/\/$/, '')));
  for (const name of readdirSync(layer)) overlay(layer, tree, name, names);
  if (names.has('.')) copyAttributes(layer, tree);
  rmSync(layer, { recursive: true, force: true });
}

function overlay(layer: string, tree: string, path: string, listed: ReadonlySet<string>): void {
  const [source, name] = [join(layer, path), path.slice(path.lastIndexOf('/') + 1)];
  if (name.startsWith('.wh.')) {
    const hidden = join(tree, path.slice(0, path.length - name.length) + name.slice('.wh.'.length));
    rmSync(hidden, { recursive: true, force: true });
    return;
  }
  const target = join(tree, path);
  if (!lstatSync(source).isDirectory()) {
    rmSync(target, { recursive: true, force: true });
    renameSync(source, target);
    return;
  }
  if (lstatSync(target, { throwIfNoEntry: false })?.isDirectory() !== true) {
    rmSync(target, { force: true });
    mkdirSync(target);
  }
  const names = readdirSync(source);
  // Whiteouts first: they are meant for what is beneath.
  const ordered = [
    ...names.filter(one => one.startsWith('.wh.')),
    ...names.filter(one => !one.startsWith('.wh.')),
  ];
  const { atimeNs, mtimeNs } = lstatSync(source, { bigint: true });
  for (const child of ordered) overlay(layer, tree, `${path}/${child}`, listed);
  if (!listed.has(path)) throw new Error(`the archive holds things in ${path}, but not ${path} itself`);
  copyAttributes(source, target);
  setTimes(target, atimeNs, mtimeNs);
}

function copyAttributes(source: string, target: string): void {
  const { uid, gid, mode } = lstatSync(source);
  const fd = openSync(target, 'r');
  const from = openSync(source, 'r');
  const names = listXattrs(fd);
  for (const name of typeof names === 'number' ? [] : names) removeXattr(fd, name);
  const wanted = listXattrs(from);
  for (const name of typeof wanted === 'number' ? [] : wanted) {
    const value = getXattr(from, name);
    if (typeof value !== 'number') setXattr(fd, name, value);
  }
  lchownSync(target, uid, gid);
  chmodSync(target, mode & 0o7777);
  closeSync(fd);
  closeSync(from);
}

/** node:fs has times in floating point seconds, too coarse for nanoseconds. */
function setTimes(path: string, ...times: readonly [bigint, bigint]): void {
  const fd = openSync(path, 'r');
  const [access, change] = times.map(time => ({
    seconds: Number(time / 1_000_000_000n),
    nanoseconds: Number(time % 1_000_000_000n),
  }));
  if (access && change) futimes(fd, access, change);
  closeSync(fd);
}

/** A copy that shares nothing of our code. */
export async function cp(from: string, to: string): Promise<void> {
  await must('cp', ['-a', from, to]);
}

/** Sets an extended attribute with setfattr(1). */
export async function setfattr(path: string, name: string, value: string): Promise<void> {
  await must('setfattr', ['-h', '-n', name, '-v', value, path]);
}

/** Directories in each other, deeper than a path can say. */
export function deepTree(top: number, depth: number): void {
  const walker = new TreeWalker(top);
  for (let level = 0; level < depth; level += 1) {
    mkdirat(walker.fd, Buffer.from('d'), 0o755);
    walker.enter('d');
  }
  walker.close();
}
