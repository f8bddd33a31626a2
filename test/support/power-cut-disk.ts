import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { mountsBelow } from '../../scripts/lib/mounts.ts';
import { must, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import { must as mustSucceed } from '../../src/host/linux/system-calls.ts';

export const fileSystems = ['ext4', 'xfs'] as const;
export type FileSystem = (typeof fileSystems)[number];

/** mkfs.xfs refuses less than 300 MiB. */
const bytes = 320 * 1024 * 1024;
const idleMs = 10_000;
const ioctl = koffi.load(null).func('ioctl', 'int', ['int', 'ulong', 'void *']);

/**
 * A disk whose power can be cut: a file system in a file, in a temporary directory of its own. What the file
 * system had not brought to the disk at that moment is gone; what it had is there, in the order of its journal.
 */
export class PowerCutDisk {
  /** A directory on it; made by whoever uses it. */
  readonly root: string;
  readonly #directory: string;
  readonly #image: string;
  readonly #mountPoint: string;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#image = join(directory, 'image');
    this.#mountPoint = join(directory, 'disk');
    this.root = join(this.#mountPoint, 'root');
  }

  static async make(type: FileSystem): Promise<PowerCutDisk> {
    const disk = new PowerCutDisk(await mkdtemp(join(tmpdir(), 'varve-power-')));
    try {
      await disk.#format(type);
      await disk.#mount();
      return disk;
    } catch (error) {
      await disk.dispose();
      throw error;
    }
  }

  /** See {@link cutPower}. */
  cut(): void {
    cutPower(this.#mountPoint);
  }

  /** The power is back: everything below is unmounted, and the file system is mounted again as it is. */
  async restore(): Promise<void> {
    await this.#unmount();
    await this.#mount();
  }

  /** Unmounts and deletes it; whoever still has a file open there does not keep it. */
  async dispose(): Promise<void> {
    try {
      await this.#unmount();
    } catch (error) {
      for (const point of mountsBelow(this.#directory)) await run('umount', ['--lazy', point]);
      throw error;
    } finally {
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async #format(type: FileSystem): Promise<void> {
    await mkdir(this.#mountPoint);
    const file = await open(this.#image, 'wx');
    await file.truncate(bytes);
    await file.close();
    await must(`mkfs.${type}`, ['-q', this.#image]);
  }

  async #mount(): Promise<void> {
    await must('mount', ['-o', 'loop', this.#image, this.#mountPoint]);
  }

  /** Also waits until the loop device is gone, and with it every block that was cached. */
  async #unmount(): Promise<void> {
    await until(`${this.#mountPoint} to be idle`, idleMs, async () => {
      for (const point of mountsBelow(this.#directory)) await run('umount', [point]);
      const { stdout } = await run('losetup', ['--associated', this.#image]);
      return stdout === '' && mountsBelow(this.#directory).length === 0;
    });
  }
}

/** From here on nothing reaches the disk, and every call on it that would have to fails with EIO. */
export function cutPower(mountPoint: string): void {
  const fd = openSync(mountPoint, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    // linux/ext4.h, EXT4_IOC_SHUTDOWN; xfs_fs.h, XFS_IOC_GOINGDOWN: _IOR('X', 125, __u32).
    const [shutDown, withoutLogFlush] = [0x8004587d, 2];
    const flags = Buffer.alloc(4);
    flags.writeUInt32LE(withoutLogFlush);
    const value: number = ioctl(fd, shutDown, flags);
    const errno = value === -1 ? koffi.errno() : 0;
    mustSucceed({ value, errno }, `shut down the file system of ${mountPoint}`);
  } finally {
    closeSync(fd);
  }
}
