/** A layer store as the daemon has it: SQLite on the disk, and the worker threads of the built program. */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unmountBelow } from '../scripts/lib/mounts.ts';
import { workerScript } from '../scripts/lib/paths.ts';
import { must } from '../scripts/lib/process.ts';
import { openLayerStore } from '../src/core/layers/open.ts';
import type { Layers } from '../src/core/layers/store.ts';
import type { MountSource } from '../src/core/mount.ts';
import { parseLayerStoreName } from '../src/core/names.ts';
import { WorkerArchiver } from '../src/drivers/layers/archive/worker-archiver.ts';
import { openLayerDirectory } from '../src/drivers/layers/open.ts';
import { systemClock } from '../src/host/linux/clock.ts';
import { LinuxDisk } from '../src/host/linux/disk.ts';
import { LinuxMounter } from '../src/host/linux/mounter.ts';
import { openSqliteStore } from '../src/store/sqlite/open.ts';
import { layerLog } from '../test/support/memory-layer-world.ts';

const name = parseLayerStoreName('default');

export interface BenchStore {
  readonly store: Layers;
  /** Shows a layer for the time of `use`. */
  mounting<T>(sources: readonly MountSource[], use: (path: string) => T | Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export async function openBenchStore(directory: string, driver: string): Promise<BenchStore> {
  const [path, point] = [join(directory, 'layers'), join(directory, 'mounted')];
  await mkdir(point, { recursive: true });
  const records = await openSqliteStore(join(directory, 'state/varve.db'), {
    synchronous: 'FULL',
    create: true,
  });
  const archiver = new WorkerArchiver(workerScript);
  const parts = { store: records, disk: new LinuxDisk(), archiver, newUuid: randomUUID };
  const disk = await openLayerDirectory({ ...parts, name, path, driver, rebuild: false, managed: false });
  const [log] = layerLog();
  const host = { clock: systemClock, bootId: 'bench', log };
  const store = await openLayerStore({ name, store: records, disk, ...host });
  const mounter = new LinuxMounter();
  return {
    store,
    async mounting([source], use) {
      if (source === undefined) throw new Error('there is nothing to mount');
      await mounter.mount({ ...source, target: point });
      try {
        return await use(point);
      } finally {
        await mounter.unmount(point);
      }
    },
    async close() {
      await store.close();
      await archiver.close();
      await records.close();
    },
  };
}

/** Acts in a directory on the real disk, and deletes it. */
export async function onRealDisk<T>(act: (directory: string) => Promise<T>): Promise<T> {
  const scratch = await mkdtemp(join(tmpdir(), 'varve-bench-'));
  try {
    return await act(scratch);
  } finally {
    await unmountBelow(scratch);
    await rm(scratch, { recursive: true });
  }
}

/**
 * Acts in a directory on a new file system in a file on the real disk, and deletes both.
 *
 * A new one because ext4 looks long for an inode that nobody freed within the last minute (recently_deleted in
 * fs/ext4/ialloc.c): what one side deleted would cost the other. For the same reason nothing is deleted between two
 * measurements.
 */
export function onNewDisk<T>(
  fileSystem: 'ext4' | 'btrfs',
  gibibytes: number,
  act: (directory: string) => Promise<T>,
): Promise<T> {
  return onRealDisk(async scratch => {
    const [image, point] = [join(scratch, 'image'), join(scratch, 'd')];
    const temporary = process.env.TMPDIR;
    await mkdir(point);
    const file = await open(image, 'wx');
    await file.truncate(gibibytes * 2 ** 30).finally(() => file.close());
    await must(`mkfs.${fileSystem}`, ['-q', image]);
    // Not through the page cache of two file systems.
    const device = (await must('losetup', ['--find', '--show', '--direct-io=on', image])).stdout.trim();
    const options = fileSystem === 'ext4' ? 'noinit_itable' : 'defaults';
    await must('mount', ['-o', options, device, point]).finally(() => must('losetup', ['--detach', device]));
    try {
      // Engines that tests start keep everything there.
      process.env.TMPDIR = point;
      return await act(point);
    } finally {
      if (temporary === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = temporary;
    }
  });
}
