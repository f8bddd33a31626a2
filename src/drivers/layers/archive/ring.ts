/**
 * How bytes reach another worker while they are being read: through memory that both share. The copy costs a tenth of
 * what a digest does.
 */

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

/** Tells the end that empties that nothing more will come: also in the name of one that fills and died. */
export function endRing({ numbers }: Pick<Ring, 'numbers'>): void {
  Atomics.store(numbers, ended, 1);
  Atomics.notify(numbers, filled);
}

/** The end that fills. */
export class RingWriter {
  readonly #numbers: Int32Array;
  readonly #slots: readonly Buffer[];
  readonly #checkpoint: () => void;
  #count = 0;
  #used = 0;

  /** @param checkpoint throws when the work is to stop */
  constructor(ring: Ring, checkpoint: () => void) {
    this.#numbers = ring.numbers;
    this.#slots = slotsOf(ring);
    this.#checkpoint = checkpoint;
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

  /** Shows the other end what was written so far. */
  flush(): void {
    if (this.#used > 0) this.#handOver();
  }

  /** Nothing more will come. */
  end(): void {
    this.flush();
    endRing({ numbers: this.#numbers });
  }

  #waitForSlot(): void {
    for (;;) {
      const done = Atomics.load(this.#numbers, emptied);
      if (this.#count - done < slots) return;
      this.#checkpoint();
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

/** The end that empties. */
export class RingReader {
  readonly #numbers: Int32Array;
  readonly #slots: readonly Buffer[];
  readonly #checkpoint: () => void;
  #count = 0;
  /** How many slots were given back: the last one is still being read. */
  #released = 0;

  /** @param checkpoint throws when the work is to stop */
  constructor(ring: Ring, checkpoint: () => void) {
    this.#numbers = ring.numbers;
    this.#slots = slotsOf(ring);
    this.#checkpoint = checkpoint;
  }

  /** The next bytes, which are valid until the next call; waits for them. @returns undefined at the end */
  next(): Buffer | undefined {
    this.#release();
    for (;;) {
      // The end is said after the last slot: in the other order it could be missed.
      const isEnded = Atomics.load(this.#numbers, ended) === 1;
      if (Atomics.load(this.#numbers, filled) !== this.#count) return this.#take();
      if (isEnded) return undefined;
      this.#checkpoint();
      Atomics.wait(this.#numbers, filled, this.#count, patienceMs);
    }
  }

  #take(): Buffer {
    const length = Atomics.load(this.#numbers, lengths + (this.#count % slots));
    const bytes = slotAt(this.#slots, this.#count).subarray(0, length);
    this.#count += 1;
    return bytes;
  }

  #release(): void {
    if (this.#released === this.#count) return;
    this.#released = this.#count;
    Atomics.store(this.#numbers, emptied, this.#count);
    Atomics.notify(this.#numbers, emptied);
  }
}

function slotsOf({ bytes }: Ring): readonly Buffer[] {
  return Array.from({ length: slots }, (_, index) => Buffer.from(bytes, index * slotBytes, slotBytes));
}

function slotAt(all: readonly Buffer[], count: number): Buffer {
  return all[count % slots] ?? Buffer.alloc(0);
}
