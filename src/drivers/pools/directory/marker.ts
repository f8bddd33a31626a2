import { type PoolName, show } from '../../../core/names.ts';
import type { Directory, Disk } from '../../../core/ports.ts';
import { FailedPrecondition, Unavailable } from '../../../errors/errors.ts';
import { step } from '../../../lib/fault.ts';

/** The file that makes a directory a pool. */
export const markerFile = 'pool.json';

export interface PoolIdentity {
  readonly name: PoolName;
  readonly path: string;
  readonly uuid: string;
}

export interface Claim {
  readonly name: PoolName;
  readonly path: string;
  /** The UUID that the records know; with one, nothing is ever made here. */
  readonly recorded: string | undefined;
  readonly newUuid: () => string;
  /** Whether a pool whose volumes the records do not know is taken as it is. */
  readonly rebuild: boolean;
}

/**
 * The identity of the pool at a path: the marker's, or that of a new pool when the directory is empty or
 * missing.
 * @throws FailedPrecondition when the directory holds something else, or volumes that the records do not know
 */
export async function identifyPool(disk: Disk, claim: Claim): Promise<PoolIdentity> {
  const { name, path, recorded, newUuid, rebuild } = claim;
  if (recorded !== undefined) return { name, path, uuid: recorded };
  const root = await disk.open(path, { make: true });
  try {
    const found = await readMarker(root);
    const entries = (await root.list('.')).filter(entry => !isHarmless(entry));
    if (found !== undefined) {
      if (!rebuild && entries.some(entry => /^[1-9][0-9]*$/.test(entry))) throw forgotten(name, path);
      return { name, path, uuid: found };
    }
    const [foreign] = entries;
    if (foreign !== undefined) {
      throw new FailedPrecondition(
        `pool ${name}: ${path} is not empty (${foreign}) and not a pool; name an empty or a new directory`,
      );
    }
    const uuid = newUuid();
    const text = `${JSON.stringify({ version: 1, uuid, name, driver: 'directory' })}\n`;
    await step('pool.marker', () => root.writeFile(markerFile, text));
    return { name, path, uuid };
  } finally {
    await root.close();
  }
}

/** Opens a pool's directory, whatever is in it. @throws Unavailable with the way out */
export async function openRoot(disk: Disk, { name, path }: PoolIdentity): Promise<Directory> {
  if (await disk.isDirectory(path)) return disk.open(path);
  throw new Unavailable(`pool ${name}: ${path} does not exist; mount its disk there`);
}

/** @throws Unavailable, with the way out, unless a root is that of the pool */
export async function checkMarker(root: Directory, { name, path, uuid }: PoolIdentity): Promise<void> {
  const found = await readMarker(root);
  if (found === uuid) return;
  throw new Unavailable(
    found === undefined
      ? `pool ${name}: ${path} has no ${markerFile}; its disk is probably not mounted: mount it there`
      : `pool ${name}: ${path} holds another pool (${found} instead of ${uuid}); mount the right disk there`,
  );
}

/**
 * Makes sure that a pool's disk is there before its records are restored: what is not there would be taken for
 * a new pool. @throws Unavailable with the way out
 */
export async function requireMarker(disk: Disk, name: PoolName, path: string): Promise<void> {
  if (await disk.isDirectory(path)) {
    const root = await disk.open(path);
    const found = await readMarker(root).finally(() => root.close());
    if (found !== undefined) return;
  }
  throw new Unavailable(
    `pool ${name}: ${path} has no ${markerFile}; its disk is probably not mounted: mount it there, or take the ` +
      'pool out of the configuration, and run `varve state rebuild` again; nothing was changed',
  );
}

/** The UUID in a root's marker; undefined without one. @throws Unavailable when it is damaged */
async function readMarker(root: Directory): Promise<string | undefined> {
  const text = await root.readFile(markerFile);
  if (text === undefined) return undefined;
  const uuid = uuidIn(text);
  if (uuid !== undefined) return uuid;
  throw new Unavailable(
    `${root.path}/${markerFile} is damaged: ${show(text)}; put the pool's uuid back into it, as ` +
      '{"version":1,"uuid":"..."} (`varve state export` knows it)',
  );
}

function uuidIn(text: string): string | undefined {
  try {
    const { uuid } = JSON.parse(text) as { uuid?: unknown };
    return typeof uuid === 'string' && uuid !== '' ? uuid : undefined;
  } catch {
    return undefined;
  }
}

/** `new-*` is what a crash while the marker was written leaves. */
function isHarmless(entry: string): boolean {
  return entry === markerFile || entry === 'lost+found' || entry.startsWith('new-');
}

function forgotten(name: PoolName, path: string): FailedPrecondition {
  return new FailedPrecondition(
    `pool ${name}: ${path} holds volumes, but the records do not know the pool; the state database is lost or ` +
      'was replaced: run `varve state rebuild`, which restores the records from the disks',
  );
}
