import { open } from 'node:fs/promises';
import { must, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';

const format = {
  ext4: ['mkfs.ext4', '-q', '-m', '0'],
  xfs: ['mkfs.xfs', '-q'],
  btrfs: ['mkfs.btrfs', '-q'],
} as const;

/** A file system in a file: a disk that can be attached, detached and filled. */
export class LoopDisk {
  readonly #image: string;

  /** @param image the absolute path of a file with a file system in it */
  constructor(image: string) {
    this.#image = image;
  }

  /** @param megabytes at least 128 for btrfs, 300 for xfs */
  static async make(
    image: string,
    megabytes: number,
    fileSystem: keyof typeof format = 'ext4',
  ): Promise<LoopDisk> {
    const file = await open(image, 'wx');
    await file.truncate(megabytes * 1024 * 1024);
    await file.close();
    const [program, ...options] = format[fileSystem];
    await must(program, [...options, image]);
    return new LoopDisk(image);
  }

  async mount(at: string): Promise<void> {
    await must('mount', ['-o', 'loop', this.#image, at]);
  }

  /** Unmounts it as soon as nothing has a file open there; fails when something keeps it busy. */
  static async unmount(at: string): Promise<void> {
    await until(`${at} to be idle`, 5_000, async () => (await run('umount', [at])).exitCode === 0);
  }
}
