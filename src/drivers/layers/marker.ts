import { type LayerStoreName, show } from '../../core/names.ts';
import type { Directory, Disk } from '../../core/ports.ts';
import { FailedPrecondition, Unavailable } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';

/** The file that makes a directory a layer store. */
export const markerFile = 'layers.json';

/** What tells a layer store from every other one, on the disk and in the records. */
export interface LayerStoreIdentity {
  readonly uuid: string;
  readonly driver: string;
}

/**
 * The identity that stands in a directory; undefined in one that is empty or missing.
 * @throws FailedPrecondition when it holds something else, Unavailable when the marker is damaged
 */
export async function foundIdentity(
  disk: Disk,
  name: LayerStoreName,
  path: string,
): Promise<LayerStoreIdentity | undefined> {
  if (!(await disk.isDirectory(path))) return undefined;
  const root = await disk.open(path);
  try {
    const found = await readMarker(root);
    if (found !== undefined) return found;
    // The last two a driver makes before the marker is there.
    const foreign = (await root.list('.')).find(entry => !/^(lost\+found|empty|new-.*)$/.test(entry));
    if (foreign === undefined) return undefined;
    throw new FailedPrecondition(
      `layer store ${name}: ${path} is not empty (${foreign}) and not a layer store; name an empty or a new directory`,
    );
  } finally {
    await root.close();
  }
}

export async function writeMarker(disk: Disk, path: string, identity: LayerStoreIdentity): Promise<void> {
  const root = await disk.open(path, { make: true });
  try {
    const text = `${JSON.stringify({ version: 1, ...identity })}\n`;
    await step('layer.marker', () => root.writeFile(markerFile, text));
  } finally {
    await root.close();
  }
}

/** Opens a root that exists. @throws Unavailable with the way out */
export async function openRoot(disk: Disk, name: LayerStoreName, path: string): Promise<Directory> {
  if (!(await disk.isDirectory(path)))
    throw new Unavailable(`layer store ${name}: ${path} does not exist; mount its disk there`);
  return await disk.open(path);
}

/** Makes sure that a root is the one that the records know. @throws Unavailable with the way out */
export async function requireIdentity(
  root: Directory,
  name: LayerStoreName,
  { uuid }: LayerStoreIdentity,
): Promise<void> {
  const found = await readMarker(root);
  if (found === undefined) {
    throw new Unavailable(
      `layer store ${name}: ${root.path} has no ${markerFile}; its disk is probably not mounted: mount it there`,
    );
  }
  if (found.uuid !== uuid) {
    throw new Unavailable(
      `layer store ${name}: ${root.path} holds another layer store (${found.uuid} instead of ${uuid}); mount the right disk there`,
    );
  }
}

async function readMarker(root: Directory): Promise<LayerStoreIdentity | undefined> {
  const text = await root.readFile(markerFile);
  if (text === undefined) return undefined;
  try {
    const { uuid, driver } = JSON.parse(text) as Record<string, unknown>;
    if (typeof uuid === 'string' && typeof driver === 'string') return { uuid, driver };
  } catch {
    // Told below.
  }
  throw new Unavailable(
    `${root.path}/${markerFile} is damaged: ${show(text)}; put the store's identity back into it, as ` +
      '{"version":1,"uuid":"...","driver":"..."}',
  );
}
