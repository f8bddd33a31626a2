/**
 * Relative paths that cannot lead out of a directory: every component is checked here, and resolved by the
 * kernel without following a link or crossing a mount (openat2(2)).
 */
import { closeSync, constants } from 'node:fs';
import { InvalidArgument } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';
import { openat2, strictlyBelow } from './system-calls.ts';

/** Not in Node's constants; the same number on every architecture of Linux that Node runs on. */
export const O_PATH = 0o10000000;
export const O_CLOEXEC = 0o2000000;

/** A root, open for reading, and the path it was opened with, for messages. */
export interface Root {
  readonly fd: number;
  readonly path: string;
}

/** A directory of the host as the magic link to its descriptor, which no rename can redirect. */
export function descriptorPath(fd: number, name?: string): string {
  return name === undefined ? `/proc/self/fd/${fd}` : `/proc/self/fd/${fd}/${name}`;
}

/** @throws InvalidArgument for anything but plain components; `.` alone is the root */
function parseRelativePath(path: string): readonly string[] {
  if (path === '.') return [];
  const parts = path.split('/');
  const plain = parts.every(part => part !== '' && part !== '.' && part !== '..' && !part.includes('\0'));
  if (!plain) {
    throw new InvalidArgument(
      `the path ${JSON.stringify(path)} is not allowed; use plain names separated by "/"`,
    );
  }
  return parts;
}

/** Opens what `path` names below the root, for the time of `use`; the root itself is open. @throws what `fromErrno` gives */
export async function withOpen<T>(
  root: Root,
  path: string,
  flags: number,
  use: (fd: number) => Promise<T>,
): Promise<T> {
  const parts = parseRelativePath(path);
  if (parts.length === 0) return await use(root.fd);
  const fd = await openBelow(root, parts.join('/'), flags);
  try {
    return await use(fd);
  } finally {
    closeSync(fd);
  }
}

/** Opens the directory that holds what `path` names, readable, so that it can be synced. */
export async function withParent<T>(
  root: Root,
  path: string,
  use: (fd: number, name: string) => Promise<T>,
): Promise<T> {
  const parts = parseRelativePath(path);
  const name = parts.at(-1);
  if (name === undefined) throw new InvalidArgument(`${root.path} itself cannot be made, moved or removed`);
  const parent = parts.slice(0, -1).join('/') || '.';
  return await withOpen(root, parent, constants.O_RDONLY | constants.O_DIRECTORY, fd => use(fd, name));
}

async function openBelow(root: Root, path: string, flags: number): Promise<number> {
  // EAGAIN: something was renamed while the kernel checked that the path stays below (openat2(2)).
  for (let attempt = 0; ; attempt += 1) {
    const { value, errno } = await openat2(root.fd, path, flags | O_CLOEXEC, strictlyBelow);
    if (errno === 0) return value;
    if (errno !== EAGAIN || attempt === 100) throw fromErrno(errno, `open ${path} in ${root.path}`);
  }
}

const EAGAIN = 11;
