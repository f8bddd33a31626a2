/** Real trees, and what of them an archive has to hold. */
import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { TarTime } from '../../../src/tar/entry.ts';
import { must } from '../../support/host-scratch.ts';
import type { Member } from '../../unit/tar/archive.ts';

/** Each file by its path, latin1, with all that counts as one line, other hard links to it included. */
export type Tree = ReadonlyMap<string, string>;

interface File {
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: TarTime;
  /** Content, target or device numbers. */
  readonly what: string;
  readonly xattrs: string;
}

/** @param parts the directories of `root` that count */
export async function scan(root: string, parts: readonly string[]): Promise<Tree> {
  const xattrs = await xattrsOf(root);
  const lines = new Map<string, string>();
  const linked = new Map<bigint, string[]>();
  const visit = (path: string): void => {
    const at = Buffer.from(`${root}/${path}`, 'latin1');
    const stat = lstatSync(at, { bigint: true });
    lines.set(path, lineOf(fileOf(at, stat, xattrs.get(path) ?? '')));
    if (stat.isDirectory()) for (const name of readdirSync(at, 'latin1')) visit(`${path}/${name}`);
    else if (stat.nlink > 1n) linked.set(stat.ino, [...(linked.get(stat.ino) ?? []), path]);
  };
  for (const part of parts) visit(part);
  for (const paths of linked.values()) addLinks(lines, paths);
  return lines;
}

function fileOf(at: Buffer, stat: BigIntStats, xattrs: string): File {
  const type = typeNames[Number(stat.mode) & 0o170000] ?? 'other';
  const second = 10n ** 9n;
  const rest = ((stat.mtimeNs % second) + second) % second;
  return {
    type,
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtime: { seconds: Number((stat.mtimeNs - rest) / second), nanoseconds: Number(rest) },
    what: whatIs(at, type, Number(stat.rdev)),
    xattrs,
  };
}

function whatIs(at: Buffer, type: string, rdev: number): string {
  if (type === 'file') return digest(readFileSync(at));
  if (type === 'symlink') return readlinkSync(at, 'latin1');
  // As the kernel packs it for user space (makedev(3)).
  const isDevice = type === 'block' || type === 'character';
  return isDevice ? `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}` : '';
}

/** The same of what was read from an archive. */
export function treeOf(members: readonly Member[]): Tree {
  const lines = new Map<string, string>();
  const linked = new Map<string, string[]>();
  for (const member of members) {
    const { path, linkPath, type, xattrs } = member.entry;
    const [name, target] = [path.toString('latin1'), linkPath.toString('latin1')];
    if (type === 'hardlink') {
      lines.set(name, lines.get(target) ?? `a hard link to ${target}, which is not there`);
      linked.set(target, [...(linked.get(target) ?? [target]), name]);
    } else {
      const values = [...xattrs].map(([attribute, value]) => `${attribute}=${value.toString('hex')}`);
      lines.set(name, lineOf({ ...member.entry, what: contentOf(member), xattrs: values.sort().join(' ') }));
    }
  }
  for (const paths of linked.values()) addLinks(lines, paths);
  return lines;
}

function contentOf({ entry: { type, device, linkPath }, data }: Member): string {
  if (type === 'file') return digest(data);
  if (type === 'symlink') return linkPath.toString('latin1');
  return type === 'block' || type === 'character' ? `${device.major}:${device.minor}` : '';
}

const typeNames: Record<number, string> = {
  [0o100000]: 'file',
  [0o120000]: 'symlink',
  [0o020000]: 'character',
  [0o060000]: 'block',
  [0o040000]: 'directory',
  [0o010000]: 'fifo',
};

function lineOf({ type, mode, uid, gid, mtime, what, xattrs }: File): string {
  const time = `${mtime.seconds} s ${mtime.nanoseconds} ns`;
  return `${type} ${mode.toString(8)} ${uid}:${gid} at ${time}: ${what} {${xattrs}}`;
}

function addLinks(lines: Map<string, string>, paths: readonly string[]): void {
  for (const path of paths) lines.set(path, `${lines.get(path)} links ${paths.toSorted().join()}`);
}

function digest(bytes: Buffer): string {
  return `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`;
}

/** What getfattr(1) shows of all files, also of links, by path. */
async function xattrsOf(root: string): Promise<ReadonlyMap<string, string>> {
  // Names are shown as bytes.
  const output = `${root}.xattrs`;
  await must('sh', '-c', 'cd "$0" && exec getfattr -R -P -h -d -m - -e hex . > "$1"', root, output);
  const found = new Map<string, string>();
  for (const part of readFileSync(output, 'latin1').split('\n\n')) {
    const [head, ...lines] = part.split('\n').filter(text => text !== '');
    if (head === undefined) continue;
    const path = unescaped(head.replace(/^# file: (\.\/)?/, ''));
    const values = lines.map(text => unescaped(text.replace('=0x', '=')));
    found.set(path, values.sort().join(' '));
  }
  return found;
}

function unescaped(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
