import { paddingOf } from './header.ts';
import type { Input } from './input.ts';

/** A part of a file, and where it belongs. */
export interface Piece {
  readonly offset: number;
  readonly data: Buffer;
}

/** What of one entry's content has not been read yet. */
export class Content {
  readonly #input: Input;
  /** Pairs of offset and length. */
  readonly #map: readonly number[];
  #at = 0;
  /** How many bytes of the pair `#at` have been read. */
  #taken = 0;
  #rest: number;
  readonly #padding: number;

  /** @param stored how many bytes the archive holds: the sum of all lengths, or more that is never handed out */
  constructor(input: Input, map: readonly number[], stored: number) {
    this.#input = input;
    this.#map = map;
    this.#rest = stored;
    this.#padding = paddingOf(stored);
  }

  /** @throws Malformed when the archive ends before */
  next(): Piece | undefined {
    const map = this.#map;
    while (this.#at < map.length && this.#taken === map[this.#at + 1]) {
      this.#at += 2;
      this.#taken = 0;
    }
    const [start, length] = [map[this.#at], map[this.#at + 1]];
    if (start === undefined || length === undefined) return undefined;
    const offset = start + this.#taken;
    const data = this.#input.content(length - this.#taken);
    this.#taken += data.length;
    this.#rest -= data.length;
    return { offset, data };
  }

  /** Passes over what is left, for good. @throws Malformed when the archive ends before */
  skip(): void {
    this.#input.skip(this.#rest);
    this.#input.skip(this.#padding);
    this.#at = this.#map.length;
  }
}
