import type { StoreEvent } from '../core/ports.ts';
import { Aborted } from '../errors/errors.ts';

/** A piece of the history: whole transactions only, so that no reader can miss the rest of one. */
export interface Batch {
  readonly events: readonly StoreEvent[];
  /** The newest revision that it covers: read on from there. */
  readonly upTo: number;
}

/** The past of a store, as far as it is kept. */
export interface History {
  /** The newest revision whose changes are forgotten; 0 when none is. */
  compacted(): number;
  /** The newest revision. */
  revision(): number;
  /**
   * The next changes after a revision, those under a prefix, in order: the transactions up to the one with the
   * `batchSize`-th change.
   */
  after(revision: number, prefix: string): Batch;
}

/** How many changes a watcher reads at once; a transaction that is larger comes whole. */
export const batchSize = 256;

/**
 * Watchers of one store. A watcher keeps nothing but the last revision it saw, and reads on from there when it
 * is told that there is more, so that a slow one costs no memory.
 */
export class Watchers {
  readonly #history: History;
  readonly #waiting = new Set<() => void>();
  #isClosed = false;

  constructor(history: History) {
    this.#history = history;
  }

  /** Says that a transaction was committed. */
  notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Ends every watcher. */
  close(): void {
    this.#isClosed = true;
    this.notify();
  }

  async *watch(prefix: string, from: number, signal: AbortSignal): AsyncGenerator<StoreEvent> {
    const isOver = () => signal.aborted || this.#isClosed;
    let seen = from;
    while (!isOver()) {
      this.#checkReach(seen);
      const { events, upTo } = this.#history.after(seen, prefix);
      for (const event of events) {
        if (isOver()) return;
        yield event;
      }
      // With no `await` since the history was read, no commit can have come between.
      if (upTo === seen) await this.#news(signal);
      seen = upTo;
    }
  }

  /** An older copy of the state puts a store behind its watchers. */
  #checkReach(seen: number): void {
    if (seen < this.#history.compacted()) {
      throw new Aborted(
        `the history after revision ${seen} is no longer kept; list again and watch from there`,
      );
    }
    if (seen > this.#history.revision()) {
      throw new Aborted(`the store has not reached revision ${seen}; list again and watch from there`);
    }
  }

  #news(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake);
    });
  }
}
