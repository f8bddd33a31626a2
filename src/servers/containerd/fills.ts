import { show } from '../../core/names.ts';
import { FailedPrecondition } from '../../errors/errors.ts';

/** The archives that are being unpacked, by the key of their layer. */
export class Fills {
  readonly #stops = new Map<string, Set<AbortController>>();

  /** Unpacks one, until the signal fires or {@link stop} is called. */
  async run<T>(key: string, signal: AbortSignal, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const stop = new AbortController();
    const stops = this.#stops.get(key) ?? new Set();
    this.#stops.set(key, stops.add(stop));
    try {
      return await act(AbortSignal.any([signal, stop.signal]));
    } finally {
      stops.delete(stop);
      if (stops.size === 0) this.#stops.delete(key);
    }
  }

  /**
   * containerd asks for a commit within a transaction, for whose end everybody else waits (core/metadata/snapshot.go): it is
   * refused at once. @throws FailedPrecondition while an archive is being unpacked there
   */
  requireNone(key: string): void {
    if (!this.#stops.has(key)) return;
    throw new FailedPrecondition(
      `cannot commit ${show(key)}: an archive is being applied to it; commit it when that has ended`,
    );
  }

  /** Ends those of a layer that is about to be removed: nobody waits for them then. */
  stop(key: string): void {
    for (const stop of this.#stops.get(key) ?? []) stop.abort();
  }
}
