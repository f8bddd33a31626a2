import { messageOf, Unavailable } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';
import { syncfs } from '../../host/linux/system-calls.ts';
import { step } from '../../lib/fault.ts';
import { closing } from './comparison.ts';
import { openDirectoryView } from './directory-view.ts';
import { SharedSync } from './shared-sync.ts';

/**
 * Brings a file system to rest for all who ask. The kernel tells of data that it could not write only once, and only
 * those who opened the file system before somebody was told (syncfs(2), "Errors"; kernel, lib/errseq.c), and it keeps
 * no such data for another attempt. So the first failure is that of all flushes to come: a later success would say
 * nothing about what was lost. What was written to layers that are not committed yet is unknown then, after a
 * restart, too.
 */
export class DiskSync {
  readonly #path: string;
  readonly #syncfs: typeof syncfs;
  readonly #shared = new SharedSync(() => step('layer.sync', () => this.#flush()));
  #lost: Unavailable | undefined;

  /** @param path of a directory on it, absolute */
  constructor(path: string, sync: typeof syncfs = syncfs) {
    this.#path = path;
    this.#syncfs = sync;
  }

  /** @throws Unavailable, from the first failure on */
  run(): Promise<void> {
    return this.#shared.run();
  }

  async #flush(): Promise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    // Not kept open: that would keep a disk from being unmounted.
    const view = await openDirectoryView(this.#path);
    await closing([view], async () => {
      const { errno } = await this.#syncfs(view.fd);
      if (errno !== 0) throw this.#fail(errno);
    });
  }

  #fail(errno: number): Unavailable {
    const cause = fromErrno(errno, `flush the file system of ${this.#path}`);
    this.#lost = new Unavailable(
      `data could not be brought to the disk (${messageOf(cause)}), and nobody knows which; look at the kernel log, then restart the daemon`,
      { cause },
    );
    return this.#lost;
  }
}
