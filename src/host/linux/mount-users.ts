/**
 * Who has a directory mounted, in all mount namespaces. Mounts are recognised by the device and root that the
 * tables show, never by st_dev: on btrfs the two differ.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { MountEntry, MountUser } from '../../core/mount.ts';
import { Internal, messageOf, NotFound, Unavailable } from '../../errors/errors.ts';
import { errorCode } from '../../errors/from-errno.ts';
import {
  escapeMountField,
  type FileSystemPlace,
  isWithin,
  parseMountinfo,
  parseMountinfoLine,
  placeUnder,
  readMountinfo,
} from './mountinfo.ts';
import { identify, must } from './system-calls.ts';

/**
 * @param except a mount point of ours, which does not count, nor do its copies
 * @throws Unavailable when a namespace's table cannot be read
 */
export async function findMountUsers(directory: string, except?: string): Promise<readonly MountUser[]> {
  const ownTable = readMountinfo('self');
  const [wanted, exceptPlace] = await Promise.all([
    placeOf(directory, ownTable),
    except === undefined ? undefined : mountedOn(except, ownTable),
  ]);
  // The ids of mounts are the same for everybody, and some namespaces are read twice.
  const users = new Map<number, MountUser>();
  const look = (pid: number, table: string) => {
    const isOurs = (entry: MountEntry) =>
      exceptPlace !== undefined &&
      (entry.mountPoint === except || isPropagated(entry)) &&
      standsOn(exceptPlace, entry, table);
    for (const { id, mountPoint } of usesIn(table, wanted, isOurs))
      if (!users.has(id)) users.set(id, { pid, mountPoint });
  };
  look(process.pid, ownTable);
  for await (const { pid, table } of otherTables()) look(pid, table);
  return [...users.values()];
}

/** What is mounted anywhere on the host, looked up once for questions about many directories. */
export class MountedPlaces {
  readonly #ownTable: string;
  /** The roots of mounts by device. */
  readonly #roots = new Map<string, Set<string>>();

  private constructor(ownTable: string) {
    this.#ownTable = ownTable;
  }

  /** @throws Unavailable when a namespace's table cannot be read */
  static async read(): Promise<MountedPlaces> {
    const places = new MountedPlaces(readMountinfo('self'));
    places.#add(places.#ownTable);
    for await (const { table } of otherTables()) places.#add(table);
    return places;
  }

  /**
   * The paths at and below a directory, relative to it, that somebody has mounted: '' for itself.
   * @throws Unavailable
   */
  async below(directory: string): Promise<readonly string[]> {
    const { device, path } = await placeOf(directory, this.#ownTable);
    const start = path === '/' ? 1 : path.length + 1;
    const roots = [...(this.#roots.get(device) ?? [])];
    return roots.filter(root => isWithin(root, path)).map(root => root.slice(start));
  }

  #add(table: string): void {
    for (const { device, root } of parseMountinfo(table)) {
      const roots = this.#roots.get(device);
      if (roots === undefined) this.#roots.set(device, new Set([root]));
      else roots.add(root);
    }
  }
}

/** Mounts of the wanted directory, except those that are, or lie below, a mount of ours. */
function usesIn(
  table: string,
  wanted: FileSystemPlace,
  isOurs: (entry: MountEntry) => boolean,
): MountEntry[] {
  const shown = entriesWith(table, wanted.path).filter(entry => showsPlace(entry, wanted));
  const ours = shown.filter(isOurs).map(entry => entry.mountPoint);
  return shown.filter(({ mountPoint }) => !ours.some(point => isWithin(mountPoint, point)));
}

/** Of a long table only the lines that can matter are parsed. */
function entriesWith(table: string, path: string): MountEntry[] {
  const text = escapeMountField(path);
  if (!table.includes(text)) return [];
  return table
    .split('\n')
    .filter(line => line.includes(text))
    .map(parseMountinfoLine);
}

/** That of a removed directory ends in `//deleted`, which lies within as well. */
function showsPlace(entry: MountEntry, wanted: FileSystemPlace): boolean {
  return entry.device === wanted.device && isWithin(entry.root, wanted.path);
}

/** Whether it belongs to a peer group: copies that propagation makes do (mount_namespaces(7)). */
function isPropagated(entry: MountEntry): boolean {
  return entry.propagation.some(tag => /^(shared|master):/.test(tag));
}

/**
 * Whether a mount stands on this directory of this file system. The copies of our mount in other namespaces
 * stand on the directory that ours stands on, whatever its path is over there; what a container mounts at the
 * same path stands on a directory of the container's.
 */
function standsOn(place: FileSystemPlace, entry: MountEntry, table: string): boolean {
  const parent = entryWithId(table, entry.parent);
  if (parent === undefined || !isWithin(entry.mountPoint, parent.mountPoint)) return false;
  const found = placeUnder(parent, entry.mountPoint);
  return found.device === place.device && found.path === place.path;
}

function entryWithId(table: string, id: number): MountEntry | undefined {
  const line = new RegExp(`^${id} .*$`, 'm').exec(table)?.[0];
  return line === undefined ? undefined : parseMountinfoLine(line);
}

/** The place of a mount point itself, under what is mounted on it. */
async function mountedOn(mountPoint: string, ownTable: string): Promise<FileSystemPlace> {
  const parent = await placeOf(dirname(mountPoint), ownTable);
  return { device: parent.device, path: join(parent.path, basename(mountPoint)) };
}

/** The place of a path that need not exist (any more): then that of its nearest ancestor, and the rest. */
async function placeOf(path: string, ownTable: string): Promise<FileSystemPlace> {
  const real = await realpath(path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT' && path !== '/') return undefined;
    throw new Unavailable(`cannot find out who uses ${path}: ${messageOf(error)}`, { cause: error });
  });
  if (real === undefined) return await mountedOn(path, ownTable);
  const file = await identify(real);
  must(file, `look at ${real}`);
  const entry = entryWithId(ownTable, file.file.mountId);
  if (entry === undefined)
    throw new Unavailable(`the mount of ${real} changed while it was looked up; try again`);
  return placeUnder(entry, real);
}

/** One table for each mount namespace but our own that has a process. @throws Unavailable when one cannot be read */
export async function* otherTables(): AsyncGenerator<{ pid: number; table: string }> {
  const read = new Set([namespaceOf('self'), firstMountOf('self')]);
  // A namespace whose processes all ended while it was looked at may live on in their children: look again.
  for (let round = 0; round < 5; round += 1) {
    let unread = 0;
    for (const [namespace, pids] of await namespaces(read)) {
      const answer = firstTable(pids);
      if (answer === undefined) {
        unread += 1;
        continue;
      }
      read.add(namespace);
      yield answer;
      await nextTurn();
    }
    if (unread === 0) return;
  }
  throw new Unavailable('mount namespaces come and go too fast to be read; try again');
}

function firstTable(pids: readonly number[]): { pid: number; table: string } | undefined {
  for (const pid of pids) {
    const table = tableUnlessEnded(pid);
    if (table !== undefined) return { pid, table };
  }
  return undefined;
}

function tableUnlessEnded(pid: number): string | undefined {
  try {
    return readMountinfo(pid);
  } catch (error) {
    // A zombie has no namespaces any more: EINVAL.
    if (error instanceof NotFound || (error instanceof Internal && errorCode(error.cause) === 'EINVAL'))
      return undefined;
    throw new Unavailable(`cannot read the mount table of process ${pid}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The mount namespaces that are not in `known`, with their processes. Threads may have one of their own. */
async function namespaces(known: ReadonlySet<string | undefined>): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  // Our own threads never leave our namespace.
  const pids = readdirSync('/proc').filter(name => /^[1-9]/.test(name) && name !== String(process.pid));
  for (const [index, name] of pids.entries()) {
    if (index % 200 === 199) await nextTurn();
    for (const task of tasksOf(name)) {
      const namespace = namespaceOf(`${name}/task/${task}`);
      if (namespace === undefined || known.has(namespace)) continue;
      found.set(namespace, [...(found.get(namespace) ?? []), Number(task)]);
    }
  }
  return found;
}

/** The threads of a process. Most have one, which the number of links tells for less than a listing. */
function tasksOf(pid: string): readonly string[] {
  try {
    const linksOfOneTask = 3;
    const directory = `/proc/${pid}/task`;
    return statSync(directory).nlink === linksOfOneTask ? [pid] : readdirSync(directory);
  } catch (error) {
    return unlessGone(error) ?? [];
  }
}

/**
 * What a namespace is recognised by: the link, or where only that may not be read (it asks for more rights than
 * the table), the id of its first mount, which no two namespaces share.
 */
function namespaceOf(process: string): string | undefined {
  try {
    return readlinkSync(`/proc/${process}/ns/mnt`);
  } catch (error) {
    return errorCode(error) === 'EACCES' ? firstMountOf(process) : unlessGone(error);
  }
}

function firstMountOf(process: string): string | undefined {
  try {
    const fd = openSync(`/proc/${process}/mountinfo`, 'r');
    try {
      const start = Buffer.alloc(32);
      readSync(fd, start);
      return `mount ${Number.parseInt(start.toString('latin1'), 10)}`;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return unlessGone(error);
  }
}

function unlessGone(error: unknown): undefined {
  if (['ENOENT', 'ESRCH', 'EINVAL'].includes(errorCode(error) ?? '')) return undefined;
  throw new Unavailable(`cannot read the mount namespaces of this host: ${messageOf(error)}`, {
    cause: error,
  });
}

/**
 * Whether a process has a mount on our mount point: at the same path, or else wherever it sees that directory, as
 * an engine sees those of its managed plugins. @throws Unavailable
 */
export async function isMountedFor(pid: number, target: string, elsewhere: boolean): Promise<boolean> {
  const namespace = namespaceOf(String(pid));
  if (namespace === namespaceOf('self') || namespace === firstMountOf('self'))
    return await isMountRoot(target);
  const table = namespace === undefined ? undefined : tableUnlessEnded(pid);
  if (table === undefined)
    throw new Unavailable(`process ${pid} has ended; what it sees cannot be looked up`);
  if (!elsewhere) return entriesWith(table, target).some(entry => entry.mountPoint === target);
  const place = await mountedOn(target, readMountinfo('self'));
  return entriesWith(table, basename(target)).some(entry => standsOn(place, entry, table));
}

async function isMountRoot(target: string): Promise<boolean> {
  const answer = await identify(target);
  if (answer.errno !== 0) return false;
  return answer.file.mountRoot;
}
