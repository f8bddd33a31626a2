import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { MountUser } from '../../core/mount.ts';
import { otherTables } from './mount-users.ts';
import { parseMountinfoLine, readMountinfo } from './mountinfo.ts';
import { type OverlayParts, parseOverlay } from './overlay-options.ts';

/** A directory that may be part of an overlay. */
export interface OverlayPart {
  /** Absolute path of a directory that exists. */
  readonly root: string;
  /** Under which the directory is known below `root`, such as `7/fs` and the link `l/7`. It need not exist any more. */
  readonly names: readonly string[];
}

/**
 * Which overlays, in any mount namespace of the host, have a directory above or beneath. A mount table shows the
 * paths that the overlay was made with, as its maker saw them: each is looked up as a process of that namespace
 * sees it. Where it leads nowhere, as in a container, what other namespaces see of the same overlay decides. What cannot
 * be told apart counts as used: a path that leads nowhere for everybody, and a lower directory whose path is relative.
 * @throws Unavailable when a namespace's table cannot be read: then nobody knows
 */
export async function findOverlayUsers(part: OverlayPart): Promise<readonly MountUser[]> {
  // The ids of mounts are the same for everybody.
  const users = new Map<number, MountUser>();
  await lookForParts(part, ({ pid, id, mountPoint }) => users.set(id, { pid, mountPoint }));
  return [...users.values()];
}

/** Which of the names are part of any overlay, as {@link findOverlayUsers}: every table is read once. */
export async function findOverlayParts(part: OverlayPart): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  await lookForParts(part, ({ names }) => {
    for (const name of names) found.add(name);
  });
  return found;
}

interface Found extends MountUser {
  readonly id: number;
  readonly names: readonly string[];
}

async function lookForParts(part: OverlayPart, report: (found: Found) => void): Promise<void> {
  const search = new Search(await keyOf(part.root), new Names(part.names), report);
  await search.look(process.pid, readMountinfo('self'));
  for await (const { pid, table } of otherTables()) await search.look(pid, table);
  search.reportDoubtful();
}

class Search {
  readonly #root: string | undefined;
  readonly #names: Names;
  readonly #report: (found: Found) => void;
  /** Overlays that some namespace knows to be of another root, by their devices. */
  readonly #foreign = new Set<string>();
  readonly #doubtful: (Found & { readonly device: string })[] = [];

  constructor(root: string | undefined, names: Names, report: (found: Found) => void) {
    this.#root = root;
    this.#names = names;
    this.#report = report;
  }

  async look(pid: number, table: string): Promise<void> {
    for (const line of table.split('\n')) {
      if (line.includes(' - overlay ')) await this.#lookAt(pid, line);
    }
  }

  /** What no namespace has told apart counts. */
  reportDoubtful(): void {
    for (const each of this.#doubtful) if (!this.#foreign.has(each.device)) this.#report(each);
  }

  async #lookAt(pid: number, line: string): Promise<void> {
    const { id, device, mountPoint, superOptions } = parseMountinfoLine(line);
    const maker = { pid, root: this.#root };
    for (const { place, found } of await partsOf(parseOverlay(superOptions), this.#names, maker)) {
      if (place === 'elsewhere') this.#foreign.add(device);
      else if (!isStillMounted(pid, line)) continue;
      else if (place === 'root') this.#report({ pid, id, mountPoint, names: found });
      else this.#doubtful.push({ pid, id, mountPoint, names: found, device });
    }
  }
}

/** False for an overlay that went meanwhile, whose paths may lead nowhere for that reason. */
function isStillMounted(pid: number, line: string): boolean {
  const [id = ''] = line.split(' ', 1);
  const overlay = line.slice(line.indexOf(' - overlay '));
  try {
    const lines = readMountinfo(pid).split('\n');
    return lines.some(other => other.startsWith(`${id} `) && other.endsWith(overlay));
  } catch {
    // Another process of its namespace may live.
    return true;
  }
}

/** The names of parts, found by how a path ends. */
class Names {
  readonly #names: ReadonlySet<string>;
  readonly #byBasename = new Map<string, string[]>();
  readonly #depths: readonly number[];

  constructor(names: readonly string[]) {
    this.#names = new Set(names);
    this.#depths = [...new Set(names.map(name => name.split('/').length))];
    for (const name of names) {
      const same = this.#byBasename.get(basename(name));
      if (same === undefined) this.#byBasename.set(basename(name), [name]);
      else same.push(name);
    }
  }

  /** The name at the end of an absolute path. */
  endOf(path: string): string | undefined {
    const words = path.split('/');
    return this.#depths.map(depth => words.slice(-depth).join('/')).find(end => this.#names.has(end));
  }

  /** Those whose last word it is. */
  called(name: string): readonly string[] {
    return this.#byBasename.get(name) ?? [];
  }
}

/** Whose table it is, and the identity of the root that is looked for. */
interface Maker {
  readonly pid: number;
  readonly root: string | undefined;
}

/** Where a path leads that an overlay was made with, as one namespace sees it; `nowhere` when nobody can tell. */
type Place = 'root' | 'elsewhere' | 'nowhere';

interface Part {
  readonly place: Place;
  readonly found: readonly string[];
}

async function partsOf(overlay: OverlayParts, names: Names, maker: Maker): Promise<readonly Part[]> {
  const { lowers, upper } = overlay;
  const parts: Part[] = [];
  for (const path of upper === undefined ? lowers : [upper, ...lowers]) {
    if (!path.startsWith('/')) {
      const found = names.called(path);
      if (found.length > 0)
        parts.push({ place: upper === undefined ? 'nowhere' : await placeAbove(upper, maker), found });
      continue;
    }
    const name = names.endOf(path);
    if (name === undefined) continue;
    parts.push({ place: await placeOf(path.slice(0, -name.length - 1), maker), found: [name] });
  }
  return parts;
}

/** Whether one of the directories above `path` is the root. */
async function placeAbove(path: string, maker: Maker): Promise<Place> {
  let place: Place = 'elsewhere';
  for (let above = dirname(path); above !== '/'; above = dirname(above)) {
    const found = await placeOf(above, maker);
    if (found === 'root') return 'root';
    if (found === 'nowhere') place = 'nowhere';
  }
  return place;
}

async function placeOf(path: string, { pid, root }: Maker): Promise<Place> {
  const key = await keyOf(`/proc/${pid}/root${path}`);
  if (key === undefined) return 'nowhere';
  return key === root ? 'root' : 'elsewhere';
}

async function keyOf(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}
