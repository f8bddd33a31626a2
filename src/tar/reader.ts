import { InvalidArgument } from '../errors/errors.ts';
import { assemble } from './assemble.ts';
import { Content, type Piece } from './content.ts';
import type { TarEntry } from './entry.ts';
import { Extensions } from './extensions.ts';
import { checksumMatches, isZero } from './header.ts';
import { type ByteSource, Input } from './input.ts';
import { Malformed, malformed, quoted } from './malformed.ts';

export type { ByteSource } from './input.ts';

/**
 * Reads the archives that tar programs write: v7, ustar, PAX and GNU, with their long names, sparse files and
 * extended attributes. It is synchronous and reads ahead, at most 1 MiB; it belongs in a worker thread.
 *
 * What is damaged, contradicts itself or goes beyond the limits of `entry.ts` is refused and never guessed. An archive
 * ends with two blocks of zeros, or with one at the very end, as GNU tar takes it: one that ends otherwise, an empty
 * one above all, was cut off.
 *
 * INVARIANT: whatever the source holds, the reader keeps the 1 MiB that it has read ahead, besides it at most 3 MiB of
 * attributes and 16 MiB of a sparse map (`limits`); an endless run of headers that are no entry is refused after 2 MiB.
 *
 * All methods throw InvalidArgument with the place and the reason; after that the reader is of no more use.
 *
 * @example
 * const reader = new TarReader(source);
 * for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
 *   for (const { offset, data } of reader.content()) write(entry.path, offset, data);
 * }
 * reader.drain();
 */
export class TarReader {
  readonly #input: Input;
  readonly #extensions = new Extensions();
  #content: Content;
  #isEnded = false;
  /** Where the last header began, and the path of the entry it made. */
  #start = 0;
  #path: Buffer | undefined;

  /** @param passed is told every byte of the source, in order, but for what {@link content} hands out */
  constructor(source: ByteSource, passed?: (bytes: Buffer) => void) {
    this.#input = new Input(source, passed);
    this.#content = new Content(this.#input, [], 0);
  }

  /** Skips what is left of the last content. @returns undefined after the end of the archive */
  next(): TarEntry | undefined {
    if (this.#isEnded) return undefined;
    return this.#located(() => {
      this.#content.skip();
      this.#path = undefined;
      const block = this.#header();
      if (block === undefined) return undefined;
      const { entry, content } = assemble(block, this.#extensions, this.#input);
      this.#content = content;
      this.#path = entry.path;
      return entry;
    });
  }

  /**
   * What has not been read yet of the file: its data by ascending offset, the holes of a sparse file left out. Each
   * `data` is valid until the next step.
   */
  *content(): Generator<Piece, void, void> {
    const next = (): Piece | undefined => this.#content.next();
    for (let piece = this.#located(next); piece !== undefined; piece = this.#located(next)) yield piece;
  }

  /** Reads the source to its end, padding and all, so that a digest beside sees every byte. It ends the reader. */
  drain(): void {
    this.#isEnded = true;
    this.#content = new Content(this.#input, [], 0);
    this.#input.drain();
  }

  /** The next header that is an entry; undefined at the end of the archive. */
  #header(): Buffer | undefined {
    for (;;) {
      this.#start = this.#input.offset;
      const block = this.#input.block();
      if (block === undefined) throw malformed('the archive ends without its end mark; it was cut off');
      if (isZero(block)) {
        this.#end();
        return undefined;
      }
      if (!checksumMatches(block)) throw malformed('its header has a wrong checksum');
      if (!this.#extensions.read(block, this.#input)) return block;
    }
  }

  #end(): void {
    const second = this.#input.block();
    if (second !== undefined && !isZero(second)) throw malformed('a block of zeros stands before it');
    this.#extensions.end();
    this.#isEnded = true;
  }

  #located<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      throw new InvalidArgument(`the archive cannot be read, ${this.#place()}: ${error.message}`);
    }
  }

  #place(): string {
    const path = this.#path === undefined ? '' : ` ${quoted(this.#path)}`;
    return `the entry${path} at byte ${this.#start}`;
  }
}
