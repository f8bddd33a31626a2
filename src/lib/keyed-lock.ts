import { DeadlineExceeded } from '../errors/errors.ts';

declare const held: unique symbol;

/** Proof that the lock of `key` is held: a function that takes it cannot be called without the lock. */
export interface Held<K extends string> {
  readonly key: K;
  readonly [held]: true;
}

/**
 * One lock for each key, given in the order of asking.
 *
 * INVARIANTS: a holder never asks for a second lock; whoever holds one keeps its own deadlines, so that the
 * lock comes free again.
 */
export class KeyedLock<K extends string> {
  readonly #tails = new Map<K, Promise<void>>();

  /**
   * Runs `act` while holding the lock of `key`; waits at most `waitMs` milliseconds for it.
   * @throws DeadlineExceeded when the wait was in vain; nothing was done then
   */
  async with<T>(key: K, waitMs: number, act: (held: Held<K>) => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: done, resolve: release } = Promise.withResolvers<void>();
    const tail = before.then(() => done);
    this.#tails.set(key, tail);
    // Not before those in front have ended: who gave up waiting must not let others pass them.
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    try {
      await this.#turn(key, before, waitMs);
      return await act({ key } as Held<K>);
    } finally {
      release();
    }
  }

  async #turn(key: K, before: Promise<void>, waitMs: number): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      reject(
        new DeadlineExceeded(
          `another operation on ${key} has not ended within ${waitMs / 1000} s; try again`,
        ),
      );
    }, waitMs);
    try {
      await Promise.race([before, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
