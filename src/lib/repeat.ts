/** Work that is done again and again: never twice at a time, and never after it was stopped. */
export interface Repetition {
  /** Does it now, or once more if it is being done. */
  nudge(): void;
  /** Ends it, and waits for what is being done. */
  stop(): Promise<void>;
}

/**
 * Starts `work` now and again `intervalMs` milliseconds after each end. `work` handles its own errors; one that
 * gets out goes to `onError`. The signal fires at `stop`.
 */
export function repeat(
  intervalMs: number,
  work: (signal: AbortSignal) => Promise<void>,
  onError: (error: unknown) => void,
): Repetition {
  const abort = new AbortController();
  let wake = Promise.withResolvers<void>();

  const run = async (): Promise<void> => {
    while (!abort.signal.aborted) {
      const woken = wake.promise;
      await work(abort.signal).catch(onError);
      const timer = setTimeout(() => wake.resolve(), intervalMs);
      await woken;
      clearTimeout(timer);
      wake = Promise.withResolvers<void>();
    }
  };
  const ended = run();

  return {
    nudge: () => wake.resolve(),
    stop: async () => {
      abort.abort();
      wake.resolve();
      await ended;
    },
  };
}
