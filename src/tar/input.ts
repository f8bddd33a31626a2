import { limits } from './entry.ts';
import { blockSize } from './header.ts';
import { malformed } from './malformed.ts';

/** Where bytes come from; it may block. */
export interface ByteSource {
  /** Fills some of `into`. @returns how many bytes; 0 at the end */
  read(into: Buffer): number;
}

/**
 * Reads a source in large pieces and hands out views of them, so that nothing is copied. Each view is valid until
 * the next call.
 */
export class Input {
  readonly #source: ByteSource;
  readonly #passed: ((bytes: Buffer) => void) | undefined;
  // One extended header is read in one piece.
  readonly #buffer = Buffer.allocUnsafeSlow(limits.header);
  #start = 0;
  #end = 0;
  #offset = 0;

  /** @param passed is told all bytes in their order, but for those of {@link content} */
  constructor(source: ByteSource, passed?: (bytes: Buffer) => void) {
    this.#source = source;
    this.#passed = passed;
  }

  /** How many bytes were handed out or skipped. */
  get offset(): number {
    return this.#offset;
  }

  /** The next block; undefined at the end. @throws Malformed when it ends within the block */
  block(): Buffer | undefined {
    if (this.#end - this.#start < blockSize && !this.#gather(blockSize)) {
      if (this.#start === this.#end) return undefined;
      throw truncated();
    }
    return this.#pass(blockSize);
  }

  /** The next bytes, all of them: at most `limits.header`. @throws Malformed when it ends before */
  bytes(length: number): Buffer {
    if (this.#end - this.#start < length && !this.#gather(length)) throw truncated();
    return this.#pass(length);
  }

  /** Some of the next bytes, at least one and at most `length`. @throws Malformed at the end */
  content(length: number): Buffer {
    return this.#take(this.#available(length));
  }

  /** @throws Malformed when it ends before */
  skip(length: number): void {
    for (let rest = length; rest > 0; ) {
      const some = this.#available(rest);
      this.#skip(some);
      rest -= some;
    }
  }

  /** Reads to the end. */
  drain(): void {
    do this.#skip(this.#end - this.#start);
    while (this.#refill());
  }

  #available(length: number): number {
    if (this.#start === this.#end && !this.#refill()) throw truncated();
    return Math.min(length, this.#end - this.#start);
  }

  #pass(length: number): Buffer {
    const bytes = this.#take(length);
    this.#passed?.(bytes);
    return bytes;
  }

  #skip(length: number): void {
    if (this.#passed !== undefined) this.#pass(length);
    else {
      // There are two of these for each entry, and a Buffer costs more than the rest of it.
      this.#start += length;
      this.#offset += length;
    }
  }

  #take(length: number): Buffer {
    const start = this.#start;
    this.#start += length;
    this.#offset += length;
    return this.#buffer.subarray(start, this.#start);
  }

  #refill(): boolean {
    this.#start = 0;
    this.#end = this.#source.read(this.#buffer);
    return this.#end > 0;
  }

  /** Moves what is left to the front, and reads until there are `length` bytes. @returns whether there are */
  #gather(length: number): boolean {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    while (this.#end < length) {
      const count = this.#source.read(this.#buffer.subarray(this.#end));
      if (count === 0) return false;
      this.#end += count;
    }
    return true;
  }
}

function truncated(): Error {
  return malformed('the archive ends in the middle; it was cut off');
}
