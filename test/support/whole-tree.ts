import { createHash } from 'node:crypto';
import {
  type BigIntStats,
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from 'node:fs';
import { getXattr, listXattrs } from '../../src/host/linux/xattr-calls.ts';

/** What a file is, by what each part of it is called; times in nanoseconds since 1970. */
export type WholeEntry = Readonly<Record<string, string>>;

/**
 * Everything that can be told from files apart, by path: type, mode, owner, time of change, content, target, device,
 * which names are one file, and each extended attribute. Paths are bytes as latin1 text; the top is the empty one.
 */
export function readWholeTree(root: string): ReadonlyMap<string, WholeEntry> {
  const [found, links] = [new Map<string, WholeEntry>(), new Map<bigint, string>()];
  const fd = openSync(root, 'r');
  const visit = (path: string): void => {
    const at = Buffer.from(`${root}/${path}`, 'latin1');
    const status = lstatSync(at, { bigint: true });
    const first = links.get(status.ino) ?? path;
    if (!status.isDirectory() && status.nlink > 1n) links.set(status.ino, first);
    const sameAs: WholeEntry = first === path ? {} : { sameAs: first };
    found.set(path, { ...inodeParts(status), ...contentParts(at, status), ...xattrsOf(fd, path), ...sameAs });
    if (!status.isDirectory()) return;
    for (const name of readdirSync(at, 'latin1').sort()) visit(path === '' ? name : `${path}/${name}`);
  };
  try {
    visit('');
  } finally {
    closeSync(fd);
  }
  return found;
}

function inodeParts({ mode, uid, gid, mtimeNs }: BigIntStats): WholeEntry {
  return { mode: mode.toString(8), owner: `${uid}:${gid}`, mtime: `${mtimeNs}` };
}

function contentParts(path: Buffer, status: BigIntStats): WholeEntry {
  if (status.isFile()) return { content: createHash('md5').update(readFileSync(path)).digest('hex') };
  if (status.isSymbolicLink()) return { target: readlinkSync(path, 'latin1') };
  const isDevice = status.isBlockDevice() || status.isCharacterDevice();
  return isDevice ? { device: `${status.rdev}` } : {};
}

function xattrsOf(fd: number, path: string): WholeEntry {
  const target = [fd, Buffer.from(path, 'latin1')] as const;
  const names = listXattrs(target);
  if (typeof names === 'number') throw new Error(`listxattr ${path}: errno ${-names}`);
  return Object.fromEntries(names.map(name => [name, textOf(getXattr(target, name))]));
}

function textOf(value: Buffer | number): string {
  return typeof value === 'number' ? `errno ${-value}` : value.toString('hex');
}

/** How another tree differs: `PATH: WHAT ours | theirs`, sorted. */
export function treeDifferences(
  ours: ReadonlyMap<string, WholeEntry>,
  theirs: ReadonlyMap<string, WholeEntry>,
): readonly string[] {
  const paths = [...new Set([...ours.keys(), ...theirs.keys()])].sort();
  return paths.flatMap(path => {
    const [our, their] = [ours.get(path), theirs.get(path)];
    if (our === undefined || their === undefined) return [`${path}: ${our ? 'not theirs' : 'not ours'}`];
    const parts = [...new Set([...Object.keys(our), ...Object.keys(their)])];
    return parts
      .filter(part => our[part] !== their[part])
      .map(part => `${path}: ${part} ${our[part] ?? 'none'} | ${their[part] ?? 'none'}`);
  });
}
