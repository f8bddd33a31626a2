/** Facts about this host, for a person who wants to know what works. Each is tried, not looked up. */
import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { mkdtemp, open, realpath, rm, rmdir, statfs } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import type { MountEntry } from '../../core/mount.ts';
import { Unavailable } from '../../errors/errors.ts';
import { fromNodeError } from '../../errors/from-errno.ts';
import { parseMountinfo, readMountinfo } from './mountinfo.ts';
import {
  cloneFile,
  FS_IMMUTABLE_FL,
  identify,
  inodeFlags,
  must,
  setInodeFlags,
  setXattr,
} from './system-calls.ts';

export interface HostFacts {
  /** As in uname(2). */
  readonly kernel: string;
  /** Whether the kernel has everything varve calls: Linux 5.8. */
  readonly kernelIsEnough: boolean;
  readonly uid: number;
  /** Whether the effective capabilities include CAP_SYS_ADMIN, without which nothing can be mounted. */
  readonly canMount: boolean;
  /** Whether the mount tables of all processes can be read, so that users of a volume are found. */
  readonly tablesReadable: boolean;
  /** Whether all processes of the host are visible: false in a pid namespace of our own. */
  readonly seesAllProcesses: boolean;
}

export function probeHost(): HostFacts {
  const kernel = release();
  const [major = 0, minor = 0] = kernel.split('.').map(Number);
  return {
    kernel,
    kernelIsEnough: major > 5 || (major === 5 && minor >= 8),
    uid: process.geteuid?.() ?? -1,
    canMount: hasCapability(21),
    tablesReadable: canRead('/proc/1/mountinfo'),
    // PROC_PID_INIT_INO of the kernel: the initial pid namespace has this number on every host.
    seesAllProcesses: readlinkSync('/proc/self/ns/pid') === 'pid:[4026531836]',
  };
}

export interface PathFacts {
  readonly fsType: string;
  /** Of the mount that holds the path. */
  readonly mountPoint: string;
  /** Whether mounts made below the path reach other mount namespaces. */
  readonly propagation: 'shared' | 'private';
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Whether directories can be made immutable (chattr +i). */
  readonly immutable: boolean;
  /** Whether files can share their data, so that a copy is O(1). */
  readonly reflink: boolean;
  readonly userXattr: boolean;
}

/**
 * What the file system at an existing directory can do; tried in a directory that is made there and removed.
 * @throws NotFound, Unavailable for a read-only or failing disk
 */
export async function probePath(path: string): Promise<PathFacts> {
  try {
    const mount = await mountHolding(path);
    const { bavail, blocks, bsize } = await statfs(path);
    return {
      fsType: mount.fsType,
      mountPoint: mount.mountPoint,
      propagation: mount.propagation.some(tag => tag.startsWith('shared:')) ? 'shared' : 'private',
      freeBytes: bavail * bsize,
      totalBytes: blocks * bsize,
      ...(await tryAbilities(path)),
    };
  } catch (error) {
    throw fromNodeError(error, `probe ${path}`);
  }
}

async function mountHolding(path: string): Promise<MountEntry> {
  const answer = await identify(await realpath(path));
  must(answer, `look at ${path}`);
  const entry = parseMountinfo(readMountinfo('self')).find(({ id }) => id === answer.file.mountId);
  if (entry === undefined)
    throw new Unavailable(`the mount of ${path} changed while it was looked up; try again`);
  return entry;
}

type Abilities = Pick<PathFacts, 'immutable' | 'reflink' | 'userXattr'>;

async function tryAbilities(path: string): Promise<Abilities> {
  const directory = await mkdtemp(join(path, 'new-probe-'));
  const [sourcePath, targetPath] = [join(directory, 'source'), join(directory, 'target')];
  try {
    const source = await open(sourcePath, 'wx+');
    const target = await open(targetPath, 'wx+');
    try {
      await source.writeFile(randomBytes(64 * 1024));
      return abilitiesOf(source.fd, target.fd);
    } finally {
      await source.close();
      await target.close();
    }
  } finally {
    await rm(sourcePath, { force: true });
    await rm(targetPath, { force: true });
    await rmdir(directory);
  }
}

function abilitiesOf(source: number, target: number): Abilities {
  const { value, errno } = inodeFlags(target);
  const immutable = errno === 0 && setInodeFlags(target, value | FS_IMMUTABLE_FL).errno === 0;
  if (immutable) setInodeFlags(target, value);
  return {
    immutable,
    reflink: cloneFile(target, source).errno === 0,
    userXattr: setXattr(target, 'user.varve.probe', '1').errno === 0,
  };
}

/** capabilities(7), from the effective set in proc(5), `/proc/PID/status`. */
function hasCapability(bit: number): boolean {
  const set = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${set}`) >> BigInt(bit)) & 1n) === 1n;
}

function canRead(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}
