/**
 * How the bytes of an archive reach the worker that computes their digest while another one unpacks them: through
 * memory that both share. The only copy costs a tenth of what the digest does.
 */
import { createHash } from 'node:crypto';
import type { TaskContext } from '../../../lib/worker-pool.ts';

const slots = 4;
const slotBytes = 1 << 20;
/** How long a thread sleeps until it looks whether it is to stop. */
const patienceMs = 200;

/** Places in the shared numbers; after them stands the length of what is in each slot. */
const [filled, emptied, ended, lengths] = [0, 1, 2, 3];

export interface Ring {
  readonly numbers: Int32Array;
  readonly bytes: SharedArrayBuffer;
}

/** Takes 4 MiB, until nobody knows it any more. */
export function makeRing(): Ring {
  return {
    numbers: new Int32Array(new SharedArrayBuffer(4 * (lengths + slots))),
    bytes: new SharedArrayBuffer(slots * slotBytes),
  };
}

/** The end that fills. */
export class RingWriter {
  readonly #numbers: Int32Array;
  readonly #slots: readonly Buffer[];
  readonly #context: TaskContext;
  #count = 0;
  #used = 0;

  constructor(ring: Ring, context: TaskContext) {
    this.#numbers = ring.numbers;
    this.#slots = slotsOf(ring);
    this.#context = context;
  }

  /** Waits while all slots are full. @throws Aborted */
  write(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      if (this.#used === 0) this.#waitForSlot();
      const copied = bytes.copy(slotAt(this.#slots, this.#count), this.#used, done);
      this.#used += copied;
      done += copied;
      if (this.#used === slotBytes) this.#handOver();
    }
  }

  /** Nothing more will come. */
  end(): void {
    if (this.#used > 0) this.#handOver();
    Atomics.store(this.#numbers, ended, 1);
    Atomics.notify(this.#numbers, filled);
  }

  #waitForSlot(): void {
    for (;;) {
      const done = Atomics.load(this.#numbers, emptied);
      if (this.#count - done < slots) return;
      this.#context.throwIfAborted();
      Atomics.wait(this.#numbers, emptied, done, patienceMs);
    }
  }

  #handOver(): void {
    Atomics.store(this.#numbers, lengths + (this.#count % slots), this.#used);
    this.#count += 1;
    this.#used = 0;
    Atomics.store(this.#numbers, filled, this.#count);
    Atomics.notify(this.#numbers, filled);
  }
}

/** The end that empties. @returns the SHA-256 of all that was written, as in `sha256:...` */
export function digestTask({ ring }: { readonly ring: Ring }, context: TaskContext): string {
  const { numbers } = ring;
  const slotBuffers = slotsOf(ring);
  const hash = createHash('sha256');
  for (let count = 0; ; ) {
    // The end is said after the last slot: in the other order it could be missed.
    const isEnded = Atomics.load(numbers, ended) === 1;
    const available = Atomics.load(numbers, filled);
    for (; count !== available; count += 1) {
      const length = Atomics.load(numbers, lengths + (count % slots));
      hash.update(slotAt(slotBuffers, count).subarray(0, length));
      Atomics.store(numbers, emptied, count + 1);
      Atomics.notify(numbers, emptied);
    }
    if (isEnded) return `sha256:${hash.digest('hex')}`;
    context.throwIfAborted();
    Atomics.wait(numbers, filled, count, patienceMs);
  }
}

function slotsOf({ bytes }: Ring): readonly Buffer[] {
  return Array.from({ length: slots }, (_, index) => Buffer.from(bytes, index * slotBytes, slotBytes));
}

function slotAt(all: readonly Buffer[], count: number): Buffer {
  return all[count % slots] ?? Buffer.alloc(0);
}
