import { createCipheriv, createHash } from 'node:crypto';
import {
  type BigIntStats,
  chmodSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** One change of a tree; it does the same wherever the tree is, mounted or not. */
export type TreeChange = (root: string) => void;

/** Writes a file, also over one that is there, whose mode then changes too. */
export function file(path: string, content: string | Buffer, mode = 0o644): TreeChange {
  return root => {
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), mode);
  };
}

export function directory(path: string, mode = 0o755): TreeChange {
  return root => {
    mkdirSync(join(root, path), { recursive: true });
    chmodSync(join(root, path), mode);
  };
}

export function remove(path: string): TreeChange {
  return root => rmSync(join(root, path), { recursive: true });
}

export function chmod(path: string, mode: number): TreeChange {
  return root => chmodSync(join(root, path), mode);
}

export function chown(path: string, uid: number, gid: number): TreeChange {
  return root => lchownSync(join(root, path), uid, gid);
}

export function rename(from: string, to: string): TreeChange {
  return root => renameSync(join(root, from), join(root, to));
}

export function hardLink(existing: string, path: string): TreeChange {
  return root => linkSync(join(root, existing), join(root, path));
}

export function symbolicLink(target: string, path: string): TreeChange {
  return root => symlinkSync(target, join(root, path));
}

/** Sets the time of modification, in seconds since 1970. */
export function time(path: string, seconds: number): TreeChange {
  return root => lutimesSync(join(root, path), seconds, seconds);
}

export function change(root: string, changes: readonly TreeChange[]): void {
  for (const apply of changes) apply(root);
}

/**
 * A tree as sorted lines that differ when anything does that a container sees: type, mode, owner, content, target and
 * which names are hard links of one file. With `times` also the time of modification, to the nanosecond.
 */
export function readTree(root: string, { times = false } = {}): readonly string[] {
  const links = new Map<bigint, string>();
  const describe = (path: string): readonly string[] => {
    const at = join(root, path);
    const status = lstatSync(at, { bigint: true });
    const words = [
      path || '/',
      status.mode.toString(8),
      `${status.uid}:${status.gid}`,
      ...details(at, status),
    ];
    const isLinked = !status.isDirectory() && status.nlink > 1n;
    const first = (isLinked && links.get(status.ino)) || path;
    if (first === path) links.set(status.ino, path);
    else words.push(`= ${first}`);
    if (times) words.push(`at ${status.mtimeNs}`);
    const below = status.isDirectory() ? readdirSync(at).sort() : [];
    return [words.join(' '), ...below.flatMap(name => describe(`${path}/${name}`))];
  };
  return describe('');
}

function details(path: string, status: BigIntStats): readonly string[] {
  if (status.isFile()) {
    return [`${status.size}`, createHash('md5').update(readFileSync(path)).digest('hex')];
  }
  if (status.isSymbolicLink()) return ['->', readlinkSync(path)];
  return status.rdev === 0n ? [] : [`device ${status.rdev}`];
}

/** A content that is the same for the same seed, and does not compress. */
export function randomBytes(size: number, seed: number): Buffer {
  const key = createHash('sha256').update(`${seed}`).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}
