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
  /** The root whose records the volumes are in: no other may use the pool. */
  readonly owner: string;
}

export interface Claim {
  readonly name: PoolName;
  readonly path: string;
  /** The UUID that the records know; with one, nothing is made here but in a rebuild. */
  readonly recorded: string | undefined;
  readonly newUuid: () => string;
  readonly owner: string;
  /** Whether a pool whose volumes the records do not know is taken as it is. */
  readonly rebuild: boolean;
}

/**
 * The identity of the pool at a path: the marker's, or that of a new pool when the directory is empty or
 * missing.
 * @throws FailedPrecondition when the directory holds something else, or volumes that the records do not know
 */
export async function identifyPool(disk: Disk, claim: Claim): Promise<PoolIdentity> {
  const { name, path, recorded, newUuid, owner, rebuild } = claim;
  if (recorded !== undefined && !rebuild) return { name, path, uuid: recorded, owner };
  const root = await disk.open(path, { make: true });
  try {
    const found = await readMarker(root);
    const entries = (await root.list('.')).filter(entry => !isHarmless(entry));
    if (found !== undefined && !rebuild && entries.some(entry => /^[1-9][0-9]*$/.test(entry))) {
      throw forgotten(name, path);
    }
    const [foreign] = entries;
    if (found === undefined && foreign !== undefined) {
      throw new FailedPrecondition(
        `pool ${name}: ${path} is not empty (${foreign}) and not a pool; name an empty or a new directory`,
      );
    }
    const identity = { name, path, uuid: found?.uuid ?? newUuid(), owner };
    if (found?.owner !== owner)
      await step('pool.marker', () => root.writeFile(markerFile, markerText(identity)));
    return identity;
  } finally {
    await root.close();
  }
}

function markerText({ uuid, name, owner }: PoolIdentity): string {
  return `${JSON.stringify({ version: 1, uuid, name, driver: 'directory', owner })}\n`;
}

/** Opens a pool's directory, whatever is in it. @throws Unavailable with the way out */
export async function openRoot(disk: Disk, { name, path }: PoolIdentity): Promise<Directory> {
  if (await disk.isDirectory(path)) return disk.open(path);
  throw new Unavailable(`pool ${name}: ${path} does not exist; mount its disk there`);
}

/** @throws Unavailable, with the way out, unless a root is that of the pool, and ours */
export async function checkMarker(root: Directory, { name, path, uuid, owner }: PoolIdentity): Promise<void> {
  const found = await readMarker(root);
  if (found === undefined) {
    throw new Unavailable(
      `pool ${name}: ${path} has no ${markerFile}; its disk is probably not mounted: mount it there`,
    );
  }
  if (found.uuid !== uuid) {
    throw new Unavailable(
      `pool ${name}: ${path} holds another pool (${found.uuid} instead of ${uuid}); mount the right disk there`,
    );
  }
  if (found.owner !== owner) {
    throw new Unavailable(
      `pool ${name}: ${path} belongs to another varve now; a pool has one: name another directory there, or ` +
        'stop that daemon and run `varve state rebuild` here',
    );
  }
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

type Marker = Pick<PoolIdentity, 'uuid'> & { readonly owner: string | undefined };

/** What a root's marker says; undefined without one. @throws Unavailable when it is damaged */
async function readMarker(root: Directory): Promise<Marker | undefined> {
  const text = await root.readFile(markerFile);
  if (text === undefined) return undefined;
  const marker = parseMarker(text);
  if (marker !== undefined) return marker;
  throw new Unavailable(
    `${root.path}/${markerFile} is damaged: ${show(text)}; put the pool's uuid back into it, as ` +
      '{"version":1,"uuid":"...","owner":"..."} (`varve state export` knows both)',
  );
}

function parseMarker(text: string): Marker | undefined {
  try {
    const { uuid, owner } = JSON.parse(text) as { uuid?: unknown; owner?: unknown };
    if (typeof uuid !== 'string' || uuid === '') return undefined;
    return { uuid, owner: typeof owner === 'string' ? owner : undefined };
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
    `pool ${name}: ${path} holds volumes, but the records do not know the pool; if the state database was lost or ` +
      'replaced, run `varve state rebuild`, which restores the records from the disks; if the volumes are those of ' +
      'another varve, name another directory',
  );
}
