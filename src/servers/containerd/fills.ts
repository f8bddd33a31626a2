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

  /** Ends those of a layer that is about to be removed: nobody waits for them then. */
  stop(key: string): void {
    for (const stop of this.#stops.get(key) ?? []) stop.abort();
  }
}
