import { layerKeys } from '../../core/layers/record.ts';
import type { LayerStoreName } from '../../core/names.ts';
import type { Disk, ObjectStore } from '../../core/ports.ts';
import { FailedPrecondition, Unimplemented } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import type { Archiver } from './archive/archiver.ts';
import { openBtrfsDriver } from './btrfs/open.ts';
import { openCopyDriver } from './copy/open.ts';
import { LayerDirectory } from './directory.ts';
import type { LayerDriver } from './driver.ts';
import { openFuseOverlayfsDriver } from './fuse-overlayfs/open.ts';
import { foundIdentity, type LayerStoreIdentity, openRoot, requireIdentity, writeMarker } from './marker.ts';
import { openOverlayDriver } from './overlay/open.ts';

type OpenDriver = (root: string, archiver: Archiver) => Promise<LayerDriver>;

/** The cheapest first: `auto` takes the first that works at a place. */
const drivers: Readonly<Record<string, OpenDriver>> = {
  btrfs: openBtrfsDriver,
  overlay: openOverlayDriver,
  'fuse-overlayfs': openFuseOverlayfsDriver,
  copy: openCopyDriver,
};

export interface OpenOptions {
  readonly disk: Disk;
  readonly store: ObjectStore;
  readonly name: LayerStoreName;
  readonly path: string;
  /** The name of a driver, or `auto`. */
  readonly driver: string;
  readonly archiver: Archiver;
  readonly newUuid: () => string;
  /** Whether the records are being restored: then a store that they do not know is taken as it is. */
  readonly rebuild: boolean;
  /** Whether a managed plugin asks: what it starts ends with it, and with a union in user space its users would. */
  readonly managed: boolean;
}

interface Recorded extends LayerStoreIdentity {
  readonly path: string;
}

/**
 * Opens the directory of a layer store; a new one gets its driver here, and keeps it.
 * @throws FailedPrecondition when it is not the one that the records know, Unimplemented when the driver cannot work
 * there, Unavailable without its disk
 */
export async function openLayerDirectory(options: OpenOptions): Promise<LayerDirectory> {
  const { disk, store, name, path, archiver } = options;
  const key = layerKeys(name).identity;
  const recorded = (await store.get(key))?.value as Recorded | undefined;
  const identity = recorded ?? (await identify(options));
  if (options.driver !== 'auto' && options.driver !== identity.driver) {
    throw new FailedPrecondition(
      `layer store ${name}: its layers at ${path} are kept by the driver ${identity.driver}; set its driver to that or ` +
        'to auto, or give the store another path',
    );
  }
  // Before anything is written there: without its disk the path is a bare directory of another one.
  await requireDisk(options, identity);
  if (recorded?.path !== path) {
    const value: Recorded = { uuid: identity.uuid, driver: identity.driver, path };
    await step('layer.identity', () => store.transaction([], [{ type: 'put', key, value }]));
  }
  const driver = await openDriver(identity.driver, options);
  return new LayerDirectory({ name, root: path, identity, disk, driver, archiver });
}

async function identify(options: OpenOptions): Promise<LayerStoreIdentity> {
  const { disk, name, path, newUuid, rebuild } = options;
  const found = await foundIdentity(disk, name, path);
  // A first start that died before it made the record left a marker, and no layers; nor are there any to lose.
  if (found !== undefined && (rebuild || (await isWithoutLayers(disk, path)))) return found;
  if (found !== undefined) {
    throw new FailedPrecondition(
      `layer store ${name}: ${path} holds layers, but the records do not know the store; if the state database was lost ` +
        'or replaced, run `varve state rebuild`; if the layers are those of another varve, name another directory',
    );
  }
  await (await disk.open(path, { make: true })).close();
  const driver = await openDriver(options.driver, options);
  await driver.close();
  const identity = { uuid: newUuid(), driver: driver.name };
  await writeMarker(disk, path, identity);
  return identity;
}

async function requireDisk({ disk, name, path }: OpenOptions, identity: LayerStoreIdentity): Promise<void> {
  const root = await openRoot(disk, name, path);
  try {
    await requireIdentity(root, name, identity);
  } finally {
    await root.close();
  }
}

async function isWithoutLayers(disk: Disk, path: string): Promise<boolean> {
  const root = await disk.open(path);
  try {
    return !(await root.list('.')).some(name => /^[1-9][0-9]*$/.test(name));
  } finally {
    await root.close();
  }
}

async function openDriver(
  wanted: string,
  { name, path, archiver, managed }: OpenOptions,
): Promise<LayerDriver> {
  const candidates = Object.entries(drivers)
    .filter(([driver]) => wanted === 'auto' || wanted === driver)
    .filter(([driver]) => !managed || driver !== 'fuse-overlayfs');
  const reasons = managed ? ['fuse-overlayfs cannot outlive a managed plugin'] : [];
  for (const [, open] of candidates) {
    try {
      return await open(path, archiver);
    } catch (error) {
      if (!(error instanceof Unimplemented)) throw error;
      reasons.push(error.message);
    }
  }
  throw new Unimplemented(`layer store ${name}: no driver works at ${path}: ${reasons.join('; ')}`);
}
