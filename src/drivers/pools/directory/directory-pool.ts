import type { Mount } from '../../../core/mount.ts';
import { type PoolName, parseVolumeNumber, type VolumeNumber } from '../../../core/names.ts';
import type { Attributes, CopyProgress, Directory, Disk, Usage } from '../../../core/ports.ts';
import type { FoundVolume, Pool, PoolCapabilities, VolumeManifest } from '../../../core/volumes/pool.ts';
import { isOf } from '../../../core/volumes/record.ts';
import { AlreadyExists, FailedPrecondition, NotFound, Unavailable } from '../../../errors/errors.ts';
import { step } from '../../../lib/fault.ts';
import { manifestText, readManifest } from './manifest.ts';
import { checkMarker, markerFile, openRoot, type PoolIdentity } from './marker.ts';

const trash = 'trash';
const defaultAttributes = { uid: 0, gid: 0, mode: 0o755 };

/**
 * A pool that is a directory of any file system: `<root>/NUMBER/data` beside its `volume.json`, published by
 * a bind mount. A volume is made as `new-NUMBER` and renamed when it is whole; it is removed by a rename into
 * `trash/`. Only these two kinds of names are ever deleted.
 */
export class DirectoryPool implements Pool {
  readonly driver = 'directory';
  readonly capabilities: PoolCapabilities = { quota: 'none' };
  readonly name: PoolName;
  readonly root: string;
  readonly #disk: Disk;
  readonly #identity: PoolIdentity;
  #verifiedMarker: string | undefined;

  constructor(disk: Disk, identity: PoolIdentity) {
    this.#disk = disk;
    this.#identity = identity;
    this.name = identity.name;
    this.root = identity.path;
  }

  probe(): Promise<void> {
    return this.#within(async () => {});
  }

  create(manifest: VolumeManifest, attributes: Partial<Attributes>): Promise<void> {
    return this.#make(manifest, async (root, data) => {
      await step('pool.set-attributes', () =>
        root.setAttributes(data, { ...defaultAttributes, ...attributes }),
      );
    });
  }

  createFrom(
    manifest: VolumeManifest,
    attributes: Partial<Attributes>,
    source: string,
    options: { readonly signal: AbortSignal; readonly onProgress: (progress: CopyProgress) => void },
  ): Promise<void> {
    return this.#make(manifest, async (root, data) => {
      await step('pool.copy', () => this.#disk.copyTree(source, root, data, options));
      await step('pool.set-attributes', () => root.setAttributes(data, attributes));
    });
  }

  writeManifest(manifest: VolumeManifest): Promise<void> {
    return this.#within(root =>
      step('pool.manifest', () => root.writeFile(`${manifest.number}/volume.json`, manifestText(manifest))),
    );
  }

  mounts(number: VolumeNumber, target: string): readonly Mount[] {
    return [{ type: 'bind', source: this.dataPath(number), target, readonly: false }];
  }

  dataPath(number: VolumeNumber): string {
    return `${this.root}/${number}/data`;
  }

  remove(number: VolumeNumber): Promise<void> {
    return this.#within(async root => {
      if (!(await root.exists(trash))) {
        await step('pool.trash', () => root.makeDirectory(trash, { mode: 0o700, exist: 'ok' }));
      }
      for (const name of [String(number), draftOf(number)]) {
        if (await root.exists(name)) await moveToTrash(root, name);
      }
    });
  }

  emptyTrash(): Promise<number> {
    return this.#within(async root => {
      const names = (await root.exists(trash)) ? await root.list(trash) : [];
      let left = 0;
      for (const name of names) left += (await deleteTree(root, `${trash}/${name}`)) ? 0 : 1;
      return left;
    });
  }

  has(number: VolumeNumber): Promise<boolean> {
    return this.#within(root => root.exists(`${number}/data`).catch(falseWhenBlocked));
  }

  numbers(): Promise<readonly VolumeNumber[]> {
    return this.#within(async root => {
      const names = (await root.list('.')).filter(name => /^[1-9][0-9]{0,14}$/.test(name));
      return names.map(parseVolumeNumber).sort((a, b) => a - b);
    });
  }

  read(number: VolumeNumber): Promise<FoundVolume> {
    return this.#within(async root => {
      try {
        return readManifest(number, await readIfThere(root, `${number}/volume.json`));
      } catch (error) {
        if (error instanceof FailedPrecondition) return { number, damage: error.message };
        throw error;
      }
    });
  }

  usage(number: VolumeNumber, signal: AbortSignal): Promise<Usage> {
    return this.#within(root => root.usage(`${number}/data`, signal));
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.#within(root => root.space());
  }

  /**
   * Opens the root for one operation. It is not kept open: that would keep the disk from being unmounted, and go
   * on showing the old disk after another one was mounted over it. As long as the marker is the same file, it
   * need not be read again.
   */
  async #within<T>(act: (root: Directory) => Promise<T>): Promise<T> {
    const root = await openRoot(this.#disk, this.#identity);
    try {
      const marker = await root.fingerprint(markerFile);
      if (marker === undefined || marker !== this.#verifiedMarker) await checkMarker(root, this.#identity);
      this.#verifiedMarker = marker;
      return await act(root);
    } finally {
      await root.close();
    }
  }

  /** Makes a volume whole under a draft name, `fill` what concerns its data, and gives it its own name. */
  #make(manifest: VolumeManifest, fill: (root: Directory, data: string) => Promise<void>): Promise<void> {
    return this.#within(async root => {
      if (await root.exists(String(manifest.number))) return requireOurs(root, manifest);
      const draft = draftOf(manifest.number);
      if (await root.exists(draft)) await step('pool.drop-draft', () => root.removeTree(draft));
      // These reach the disk with the manifest, and the draft's name with the rename.
      await step('pool.draft', () => root.makeDirectory(draft, { mode: 0o700, durable: false }));
      await step('pool.draft-data', () =>
        root.makeDirectory(`${draft}/data`, { mode: 0o700, durable: false }),
      );
      await step('pool.draft-manifest', () => root.writeFile(`${draft}/volume.json`, manifestText(manifest)));
      await fill(root, `${draft}/data`);
      await step('pool.create', () => root.rename(draft, String(manifest.number)));
    });
  }
}

/** @throws AlreadyExists when a number is the place of another volume */
async function requireOurs(root: Directory, manifest: VolumeManifest): Promise<void> {
  const { number } = manifest;
  const found = readManifest(number, await readIfThere(root, `${number}/volume.json`));
  if ('manifest' in found && isOf(found.manifest, manifest)) return;
  throw new AlreadyExists(`${root.path}/${number} holds something else; run \`varve state check\``);
}

function draftOf(number: VolumeNumber): string {
  return `new-${number}`;
}

async function moveToTrash(root: Directory, name: string): Promise<void> {
  let target = `${trash}/${name}`;
  for (let copy = 1; await root.exists(target); copy += 1) target = `${trash}/${name}.${copy}`;
  await step('pool.remove', () => root.rename(name, target));
}

/** @returns whether it is gone; a tree that cannot be deleted now (something mounted in it) is left for later */
async function deleteTree(root: Directory, path: string): Promise<boolean> {
  try {
    await step('pool.empty-trash', () => root.removeTree(path));
    return true;
  } catch (error) {
    if (error instanceof FailedPrecondition || error instanceof Unavailable) return false;
    throw error;
  }
}

/** A file or a link that stands in the place of a directory is no volume. */
function falseWhenBlocked(error: unknown): false {
  if (error instanceof FailedPrecondition) return false;
  throw error;
}

async function readIfThere(root: Directory, path: string): Promise<string | undefined> {
  try {
    return await root.readFile(path);
  } catch (error) {
    if (error instanceof NotFound) return undefined;
    throw error;
  }
}
