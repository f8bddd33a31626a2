import { Aborted, FailedPrecondition, messageOf } from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';
import type { VolumeName } from '../names.ts';
import type { CopyProgress } from '../ports.ts';
import { formatBytes } from '../quantity.ts';
import type { Volume } from './catalog.ts';

interface Running {
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

/** What makes a volume by copying, in the background; it rejects when that fails. */
export type CopyWork = (signal: AbortSignal, onProgress: (progress: CopyProgress) => void) => Promise<void>;

/** The copies that are under way, one for each volume. */
export class Copies {
  readonly #log: Logger;
  readonly #running = new Map<VolumeName, Running>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Starts a copy. It ends by itself; `work` records how. */
  start(volume: Volume, work: CopyWork): void {
    const { name } = volume.record;
    const abort = new AbortController();
    volume.progress = { doneBytes: 0, totalBytes: 0 };
    const done = work(abort.signal, progress => this.#report(volume, progress))
      .catch((error: unknown) => {
        if (abort.signal.aborted) return;
        const what = error instanceof Aborted ? 'was interrupted, and is made again' : 'failed';
        this.#log.error(`copy for volume ${name} ${what}: ${messageOf(error)}`);
      })
      .finally(() => {
        this.#running.delete(name);
        volume.progress = null;
      });
    this.#running.set(name, { abort, done });
  }

  /** Waits until the copy of a volume has ended, at most `waitMs` milliseconds. */
  async settle(name: VolumeName, waitMs: number): Promise<void> {
    const running = this.#running.get(name);
    if (running === undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, waitMs);
    await Promise.race([running.done, promise]);
    clearTimeout(timer);
  }

  /** Stops the copy of a volume and waits until it has stopped. */
  async cancel(name: VolumeName): Promise<void> {
    const running = this.#running.get(name);
    running?.abort.abort();
    await running?.done;
  }

  async cancelAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map(name => this.cancel(name)));
  }

  #report(volume: Volume, progress: CopyProgress): void {
    const before = tenths(volume.progress);
    volume.progress = progress;
    if (tenths(progress) > before)
      this.#log.info(`volume ${volume.record.name}: ${describeProgress(progress)}`);
  }
}

/** @throws FailedPrecondition unless the volume can be mounted */
export function checkReady({ record, progress }: Volume): void {
  const { name, phase } = record;
  if (phase === 'Ready') return;
  if (phase === 'Creating') {
    const state = progress === null ? 'its creation is about to be finished' : describeProgress(progress);
    throw new FailedPrecondition(`volume ${name} is not ready yet: ${state}; try again later`);
  }
  throw new FailedPrecondition(
    `volume ${name} could not be made: ${record.failure ?? 'no reason recorded'}; remove it, or create it again to retry`,
  );
}

export function describeProgress({ doneBytes, totalBytes }: CopyProgress): string {
  return totalBytes === 0
    ? 'the copy is starting'
    : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)} copied`;
}

function tenths(progress: CopyProgress | null): number {
  if (progress === null || progress.totalBytes === 0) return 0;
  return Math.floor((10 * progress.doneBytes) / progress.totalBytes);
}
