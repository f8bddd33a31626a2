/** Peers that stop sending, or taking, keep a worker and open trees: they are given up after a while. */
import { DeadlineExceeded } from '../../../errors/errors.ts';
import { within } from '../../../lib/deadline.ts';

/**
 * @param signal ends the iteration at once, whether the source answers or not
 * @throws DeadlineExceeded when the next bytes take longer than `ms` milliseconds to come
 */
export async function* patiently(
  bytes: AsyncIterable<Uint8Array>,
  ms: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]();
  let stop = () => {};
  const answer = () =>
    new Promise<IteratorResult<Uint8Array, unknown>>((resolve, reject) => {
      stop = () => resolve({ done: true, value: undefined });
      if (signal.aborted) stop();
      else iterator.next().then(resolve, reject);
    });
  const next = () => within(ms, `no byte of the archive came for ${spelled(ms)}; send it again`, answer);
  const end = () => stop();
  signal.addEventListener('abort', end, { once: true });
  try {
    for (let result = await next(); !result.done; result = await next()) yield result.value;
  } finally {
    signal.removeEventListener('abort', end);
    // Nobody waits for it: a source that does not answer does not answer this either.
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/** Measures how long a reader takes nothing of what is offered to it; the first byte is from the beginning. */
export class Offer {
  readonly #ms: number;
  readonly #giveUp: () => void;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(ms: number, giveUp: () => void) {
    this.#ms = ms;
    this.#giveUp = giveUp;
    this.made();
  }

  made(): void {
    this.#timer = setTimeout(() => {
      this.#isOver = true;
      this.#giveUp();
    }, this.#ms).unref();
  }

  /** Nobody will take it any more. */
  withdraw(): void {
    clearTimeout(this.#timer);
  }

  /** @throws DeadlineExceeded when that was too late */
  taken(): void {
    this.withdraw();
    if (!this.#isOver) return;
    throw new DeadlineExceeded(
      `nobody took the next bytes of the archive for ${spelled(this.#ms)}; begin again, and read on`,
    );
  }
}

function spelled(ms: number): string {
  const seconds = ms / 1000;
  return seconds % 60 === 0 ? `${seconds / 60} minutes` : `${seconds} seconds`;
}
