import { layerStoreSuite } from '../suites/layer-store.ts';
import { type FileSystem, LayerHost } from './layer-host.ts';
import type { LayerExceptions } from './layer-world.ts';
import { times } from './long.ts';

type Differences = Omit<LayerExceptions, 'driver' | 'fileSystem'>;

/** What each driver does otherwise than the others; docs/limitations.md says it to users. */
const differences = {
  overlay: {
    renamesDirectories: false,
    copiesOnWrite: 'file',
    openFilesSeeWrites: true,
    keepsHardLinks: false,
    keepsInodeNumbers: true,
    deletesSockets: true,
    limits: ['bytes', 'inodes'],
    freezesInUse: false,
    mergesInUse: false,
    isFirst: true,
    highest: 500,
    deepest: 500,
  },
  btrfs: {
    renamesDirectories: true,
    copiesOnWrite: 'block',
    openFilesSeeWrites: true,
    keepsHardLinks: true,
    keepsInodeNumbers: true,
    deletesSockets: true,
    limits: ['bytes'],
    freezesInUse: true,
    mergesInUse: true,
    isFirst: true,
    highest: null,
    deepest: 100,
  },
  copy: {
    renamesDirectories: true,
    copiesOnWrite: 'everything',
    openFilesSeeWrites: true,
    keepsHardLinks: true,
    keepsInodeNumbers: true,
    deletesSockets: true,
    limits: [],
    freezesInUse: false,
    mergesInUse: true,
    isFirst: true,
    highest: null,
    deepest: 50,
  },
  'fuse-overlayfs': {
    renamesDirectories: false,
    copiesOnWrite: 'file',
    openFilesSeeWrites: false,
    keepsHardLinks: 'sometimes',
    keepsInodeNumbers: true,
    deletesSockets: false,
    limits: ['bytes', 'inodes'],
    freezesInUse: false,
    mergesInUse: false,
    isFirst: true,
    highest: null,
    deepest: times(50, 100),
  },
} as const satisfies Record<string, Differences>;

/** What one driver on one file system does otherwise than the others. */
export function layerExceptions(
  driver: keyof typeof differences,
  fileSystem: FileSystem,
  changes: Partial<Differences> = {},
): LayerExceptions {
  return { driver, fileSystem, ...differences[driver], ...changes };
}

/** Runs the suite of layer stores with one driver on one real file system. */
export function runLayerStoreSuite(
  driver: keyof typeof differences,
  fileSystem: FileSystem,
  changes: Partial<Differences> = {},
): void {
  describe(`LayerStore: ${driver} on ${fileSystem}`, () => {
    let host: LayerHost;

    before(async () => {
      host = await LayerHost.make(fileSystem);
    });

    after(() => host.remove());

    layerStoreSuite(() => host.open(driver), layerExceptions(driver, fileSystem, changes));
  });
}
