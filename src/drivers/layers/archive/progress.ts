import type { CopyProgress } from '../../../core/ports.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';

const millisecondsBetween = 100;

/** Tells how many bytes are done, not too often; each step also looks whether the work was cancelled. */
export class Progress {
  readonly #total: number;
  readonly #context: TaskContext;
  #done = 0;
  #told = -Infinity;

  constructor(totalBytes: number, context: TaskContext) {
    this.#total = totalBytes;
    this.#context = context;
    this.add(0);
  }

  /** @throws Aborted */
  add(bytes: number): void {
    this.#context.throwIfAborted();
    this.#done += bytes;
    const now = performance.now();
    if (now - this.#told < millisecondsBetween) return;
    this.#told = now;
    this.#tell(Math.min(this.#done, this.#total));
  }

  end(): void {
    this.#tell(this.#total);
  }

  #tell(doneBytes: number): void {
    const progress: CopyProgress = { doneBytes, totalBytes: this.#total };
    this.#context.progress(progress);
  }
}
