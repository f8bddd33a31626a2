import type { LayerStore } from '../../core/layers/layer-store.ts';
import { show } from '../../core/names.ts';
import { FailedPrecondition, InvalidArgument, messageOf, NotFound } from '../../errors/errors.ts';
import { within } from '../../lib/deadline.ts';
import type { Logger } from '../../lib/log.ts';
import type { Call } from '../grpc/service.ts';

/** How long a removal is waited for, in milliseconds: containerd lets nobody at its snapshots meanwhile. */
const patienceMs = 3_000;

/** How many layers are remembered that containerd may yet ask for. */
const memory = 1_000;

/**
 * The removals of one snapshotter. containerd's garbage collection lists all layers, then removes what it does not know,
 * one after the other; after FAILED_PRECONDITION it goes on to the next layer, and any other failure ends it with all
 * that comes after (core/metadata/snapshot.go, pruneBranch). So whatever keeps one layer from being removed is that.
 */
export class Removals {
  readonly #log: Logger;
  /** Removed without an answer that says so: containerd may have seen them in a list before. */
  readonly #untold = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @throws NotFound, InvalidArgument; FailedPrecondition while it cannot be removed, for whatever reason */
  async remove(store: LayerStore, key: string): Promise<void> {
    let isLate = false;
    const removal = this.#remove(store, key).then(() => {
      if (isLate) this.#noteUntold(key);
    });
    try {
      await within(patienceMs, `it takes longer than ${patienceMs / 1000} s`, () => removal);
    } catch (error) {
      isLate = true;
      if (error instanceof NotFound && this.#untold.delete(key)) return;
      const isClear = [NotFound, InvalidArgument, FailedPrecondition].some(each => error instanceof each);
      if (isClear) throw error;
      throw new FailedPrecondition(
        `cannot remove ${show(key)} now: ${messageOf(error)}; the next garbage collection tries again`,
        { cause: error },
      );
    }
  }

  /**
   * Removes a layer whose maker has gone: containerd has not noted it, and would never remove it.
   * @throws the reason of the signal then
   */
  async requireWaiting(store: LayerStore, key: string, { signal }: Call): Promise<void> {
    if (!signal.aborted) return;
    await this.#remove(store, key);
    this.#noteUntold(key);
    throw signal.reason;
  }

  async #remove(store: LayerStore, key: string): Promise<void> {
    try {
      await store.remove(key);
    } catch (error) {
      if (error instanceof NotFound || (await isThere(store, key))) throw error;
      this.#log.warn(`removed layers stay: ${messageOf(error)}`);
    }
  }

  #noteUntold(key: string): void {
    this.#untold.add(key);
    const [oldest] = this.#untold;
    if (this.#untold.size > memory && oldest !== undefined) this.#untold.delete(oldest);
  }
}

async function isThere(store: LayerStore, key: string): Promise<boolean> {
  return await store.stat(key).then(
    () => true,
    (error: unknown) => !(error instanceof NotFound),
  );
}
