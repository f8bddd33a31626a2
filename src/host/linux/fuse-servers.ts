import { readdir, readFile, statfs } from 'node:fs/promises';
import { basename } from 'node:path';
import { errorCode } from '../../errors/from-errno.ts';
import { isWithin, parseMountinfo, readMountinfo } from './mountinfo.ts';

/** A process that serves a union in user space. */
export interface FuseServer {
  readonly pid: number;
  /** Absolute, as it was started with. */
  readonly target: string;
  /** As it was started with, one by one. */
  readonly options: readonly string[];
}

/** The word that gives fuse-overlayfs its options; mount(8) and its helpers use the same. */
const optionsWord = '-o';

/**
 * All processes of fuse-overlayfs on this host, ours and those of engines. What is mounted can be asked of nobody
 * else: a mount table shows no directory of such a union.
 */
export async function findFuseServers(): Promise<readonly FuseServer[]> {
  const pids = (await readdir('/proc')).map(Number).filter(pid => pid > 0);
  const servers = await Promise.all(pids.map(serverAt));
  return servers.filter(server => server !== undefined);
}

async function serverAt(pid: number): Promise<FuseServer | undefined> {
  // A process that ended, or is about to be one, has none.
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  const words = line.split('\0').slice(0, -1);
  if (basename(words[0] ?? '') !== 'fuse-overlayfs') return undefined;
  const given = words.filter((_, index) => words[index - 1] === optionsWord);
  const paths = words.slice(1).filter(word => word.startsWith('/'));
  return { pid, target: paths.at(-1) ?? '', options: given.flatMap(splitOptions) };
}

/** At each comma that no backslash stands before. */
function splitOptions(text: string): readonly string[] {
  return (text.match(/(?:\\.|[^\\,])+/gs) ?? []) as readonly string[];
}

/**
 * The unions at or below a directory whose process has died, so that every use of them fails with ENOTCONN: whoever
 * holds their lock mounts them again. One whose process merely hangs is not looked at, since the look would hang.
 */
export async function findDeadFuseMounts(directory: string): Promise<readonly string[]> {
  const points = parseMountinfo(readMountinfo('self'))
    .filter(({ fsType, mountPoint }) => fsType === 'fuse.fuse-overlayfs' && isWithin(mountPoint, directory))
    .map(entry => entry.mountPoint);
  if (points.length === 0) return [];
  const served = new Set((await findFuseServers()).map(server => server.target));
  const unserved = [...new Set(points)].filter(point => !served.has(point));
  const dead = await Promise.all(unserved.map(isDead));
  return unserved.filter((_, index) => dead[index]);
}

/**
 * Asks the process itself, since the kernel remembers the attributes of a file longer than it lives. ECONNABORTED: it died
 * while it was asked (kernel, fs/fuse/dev.c: fuse_abort_conn).
 */
export async function isDead(mountPoint: string): Promise<boolean> {
  try {
    await statfs(mountPoint);
    return false;
  } catch (error) {
    return ['ENOTCONN', 'ECONNABORTED'].includes(errorCode(error) ?? '');
  }
}
