import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/lib/wait.ts';
import type { MountSource } from '../../src/core/mount.ts';
import { FailedPrecondition } from '../../src/errors/errors.ts';
import { LinuxMounter } from '../../src/host/linux/mounter.ts';

const mounter = new LinuxMounter();

/** A directory with a mount point for each thing that a test mounts. */
export class MountPoints {
  readonly #directory: string;
  #count = 0;

  /** @param directory empty, and gone after `close` */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @returns where it is mounted */
  async mount(sources: readonly MountSource[]): Promise<string> {
    this.#count += 1;
    const target = join(this.#directory, `${this.#count}`);
    mkdirSync(target);
    for (const source of sources) await mounter.mount({ ...source, target });
    return target;
  }

  async unmount(path: string): Promise<void> {
    await unmountWhenIdle(path, 5_000);
    rmdirSync(path);
  }

  async close(): Promise<void> {
    for (const name of readdirSync(this.#directory)) await this.unmount(join(this.#directory, name));
    rmdirSync(this.#directory);
  }
}

/** Unmounts as soon as nothing is busy there. @throws Error after that many milliseconds */
export async function unmountWhenIdle(path: string, patienceMs: number): Promise<void> {
  await until(`${path} to be idle`, patienceMs, async () => {
    try {
      await mounter.unmount(path);
      return true;
    } catch (error) {
      if (error instanceof FailedPrecondition) return false;
      throw error;
    }
  });
}
