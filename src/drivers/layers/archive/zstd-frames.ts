/** Where the frames of zstd data begin and end: RFC 8878, section 3.1. Found without decompressing anything. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InvalidArgument } from '../../../errors/errors.ts';

/** What is cut without a pause: when all its blocks are empty, that takes some 20 ms. */
const partBytes = 128 * 1024;
const frameMagic = Buffer.from('28b52ffd', 'hex');
/** Without the last four bits, which are free (section 3.1.2). */
const skippableMagic = 0x184d2a5;
/** A block of one byte, which is repeated: its size is that of the result (section 3.1.1.2.2). */
const runLength = 1;

/** Whether data that begins so is zstd. */
export function isZstd(start: Buffer): boolean {
  return start.length >= frameMagic.length && kindOf(start) !== undefined;
}

/** What comes next of the data. */
interface Want {
  readonly place: 'between' | 'skippable' | 'frame';
  readonly bytes: number;
  /** Otherwise they only pass. */
  readonly seen: boolean;
}

/**
 * The same data, cut where a frame ends, without skippable frames: a decompressor ignores whatever follows the end of
 * a frame in one piece, and takes the next piece for another frame.
 * @throws InvalidArgument when something else follows a frame, or the data ends within one
 */
export async function* cutFrames(data: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const cutter = new Cutter();
  for await (const piece of data) {
    for (let at = 0; at < piece.length; at += partBytes) {
      yield* cutter.cut(piece.subarray(at, at + partBytes));
      await nextTurn();
    }
  }
  cutter.finish();
}

class Cutter {
  readonly #parser = parse();
  #want: Want;
  #missing: number;
  readonly #seen = Buffer.alloc(frameMagic.length);

  constructor() {
    this.#want = this.#parser.next(this.#seen).value;
    this.#missing = this.#want.bytes;
  }

  *cut(piece: Uint8Array): Generator<Uint8Array> {
    let start = 0;
    for (let at = 0; at < piece.length; ) {
      const { place } = this.#want;
      at += this.#take(piece, at);
      if (this.#want.place === place) continue;
      if (place === 'frame') yield piece.subarray(start, at);
      if (this.#want.place === 'frame') yield frameMagic;
      start = at;
    }
    if (this.#want.place === 'frame' && start < piece.length) yield piece.subarray(start);
  }

  finish(): void {
    if (this.#want.place !== 'between' || this.#missing < this.#want.bytes) throw unfinished();
  }

  /** @returns how many bytes were taken */
  #take(piece: Uint8Array, at: number): number {
    const length = Math.min(this.#missing, piece.length - at);
    if (this.#want.seen) {
      const known = this.#want.bytes - this.#missing;
      for (let index = 0; index < length; index += 1) this.#seen[known + index] = piece[at + index] ?? 0;
    }
    this.#missing -= length;
    while (this.#missing === 0) {
      this.#want = this.#parser.next(this.#seen).value;
      this.#missing = this.#want.bytes;
    }
    return length;
  }
}

/** @yields what comes next, and is given the bytes that it wants to see */
function* parse(): Generator<Want, never, Buffer> {
  for (;;) {
    const magic = yield { place: 'between', bytes: frameMagic.length, seen: true };
    const place = kindOf(magic);
    if (place === undefined) throw noFrame();
    if (place === 'frame') yield* parseFrame();
    else {
      const size = yield { place, bytes: 4, seen: true };
      yield { place, bytes: size.readUInt32LE(), seen: false };
    }
  }
}

/** What follows the magic number: the header, blocks, and perhaps a checksum (section 3.1.1). */
function* parseFrame(): Generator<Want, void, Buffer> {
  const place = 'frame';
  const descriptor = (yield { place, bytes: 1, seen: true }).readUInt8();
  yield { place, bytes: headerBytes(descriptor), seen: false };
  for (let isLast = false; !isLast; ) {
    const block = (yield { place, bytes: 3, seen: true }).readUIntLE(0, 3);
    isLast = (block & 1) === 1;
    yield { place, bytes: ((block >> 1) & 3) === runLength ? 1 : block >> 3, seen: false };
  }
  const hasChecksum = ((descriptor >> 2) & 1) === 1;
  yield { place, bytes: hasChecksum ? 4 : 0, seen: false };
}

/** Of a frame's header after its first byte: size of the window, dictionary, size of the content (section 3.1.1.1). */
function headerBytes(descriptor: number): number {
  const isSingleSegment = (descriptor >> 5) & 1;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const content = [isSingleSegment, 2, 4, 8][descriptor >> 6] ?? 0;
  return 1 - isSingleSegment + dictionary + content;
}

function kindOf(magic: Buffer): 'frame' | 'skippable' | undefined {
  if (magic.compare(frameMagic, 0, frameMagic.length, 0, frameMagic.length) === 0) return 'frame';
  return magic.readUInt32LE() >>> 4 === skippableMagic ? 'skippable' : undefined;
}

function noFrame(): InvalidArgument {
  return new InvalidArgument(
    'the archive cannot be decompressed: something that is not zstd follows a part that is; make the archive anew',
  );
}

function unfinished(): InvalidArgument {
  return new InvalidArgument(
    'the archive cannot be decompressed: its zstd data ends too early; get it again',
  );
}
