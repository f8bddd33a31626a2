import { limits } from './entry.ts';
import { blockSize, paddingOf, sizeOf, typeOf } from './header.ts';
import type { Input } from './input.ts';
import { malformed } from './malformed.ts';
import { PaxAttributes, parsePax } from './pax.ts';

/** What stood before an entry and describes it. */
export interface Description {
  readonly pax: PaxAttributes;
  /** GNU's types L and K. */
  readonly path: Buffer | undefined;
  readonly linkPath: Buffer | undefined;
}

/** Keeps what the headers say that are not entries themselves: PAX, `x` and `g`, and GNU's long names, `L` and `K`. */
export class Extensions {
  #globals = new PaxAttributes();
  #pax: PaxAttributes | undefined;
  #path: Buffer | undefined;
  #linkPath: Buffer | undefined;
  #bytes = 0;
  #isPax = false;

  /** Whether the archive has shown itself to be one of PAX. */
  get isPax(): boolean {
    return this.#isPax;
  }

  /** @returns false when the block is the header of something else @throws Malformed */
  read(block: Buffer, input: Input): boolean {
    const type = typeOf(block);
    if (type !== 'x' && type !== 'g' && type !== 'L' && type !== 'K') return false;
    const size = sizeOf(block);
    this.#bytes += blockSize + size + paddingOf(size);
    if (size < 0 || size > limits.header) throw malformed(`an extended header of it has ${size} bytes`);
    if (this.#bytes > limits.headers) throw malformed('it has too many extended headers');
    const body = input.bytes(size);
    if (type === 'x' || type === 'g') this.#readPax(type, body);
    else this.#readLong(type, body);
    input.skip(paddingOf(size));
    return true;
  }

  #readPax(type: 'x' | 'g', body: Buffer): void {
    this.#isPax = true;
    const attributes = parsePax(body, this.#globals);
    if (type === 'x') {
      if (this.#pax !== undefined) throw malformed('it has two extended headers');
      this.#pax = attributes;
      return;
    }
    if (attributes.sparse !== undefined) throw malformed('a global header says that all files are sparse');
    // What comes together from many headers is bounded, for each entry that inherits it is checked.
    this.#globals = attributes;
  }

  #readLong(type: 'L' | 'K', body: Buffer): void {
    const nul = body.indexOf(0);
    const text = nul === -1 ? body : body.subarray(0, nul);
    if (body.subarray(text.length).some(byte => byte !== 0)) throw malformed('its long name holds a NUL');
    if (text.length > limits.path + 1) throw malformed(`its long name has more than ${limits.path} bytes`);
    if ((type === 'L' ? this.#path : this.#linkPath) !== undefined) throw malformed('it has two long names');
    if (type === 'L') this.#path = Buffer.from(text);
    else this.#linkPath = Buffer.from(text);
  }

  /** Hands out what was said, and forgets all that is not global. @throws Malformed when it contradicts itself */
  take(): Description {
    const { path, linkPath } = { path: this.#path, linkPath: this.#linkPath };
    const pax = this.#pax ?? this.#globals;
    // Programs differ in which one they believe.
    if ((path && pax.path) || (linkPath && pax.linkPath)) {
      throw malformed('its name stands in a GNU and in a PAX header');
    }
    this.#pax = undefined;
    this.#path = undefined;
    this.#linkPath = undefined;
    this.#bytes = 0;
    return { pax, path, linkPath };
  }

  /** @throws Malformed when something was said of an entry that never came */
  end(): void {
    if (this.#pax ?? this.#path ?? this.#linkPath)
      throw malformed('an extended header stands before no entry');
  }
}
