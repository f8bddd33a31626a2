/**
 * The file `original/archive.zst` beside a layer's tree: an uncompressed archive without the contents of its regular
 * files, and where those stand.
 *
 * It holds records, in the order of the archive; numbers are little-endian, lengths and offsets whole numbers as
 * doubles, which are exact up to 2^53:
 *
 * - 0 `bytes`: length (4 bytes), these very bytes;
 * - 1 `file`: length of a path (2 bytes), the path in the layer: the pieces that follow are of this file;
 * - 2 `piece`: offset and length (8 bytes each) in the file;
 * - 3 `lost`: number of a copy (4 bytes), length of a path (2 bytes), the path: what every `file` record of this path
 *   so far names that no `lost` record before does is not in the layer any more, but in the file `original/NUMBER`.
 *
 * Records stand whole in pieces of at most 1 MiB, each of them a frame of zstd (RFC 8878) after a skippable frame that
 * says how long it is.
 */
import { readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Unavailable } from '../../../errors/errors.ts';
import { fromNodeError } from '../../../errors/from-errno.ts';

/** Beside the tree, in a layer's directory. */
export const originalDirectory = 'original';

export function recordsPath(original: string): string {
  return join(original, 'archive.zst');
}

export function copyPath(original: string, number: number): string {
  return join(original, String(number));
}

/** Paths are latin1 text, relative to the tree. */
export type OriginalRecord =
  | { readonly type: 'bytes'; readonly bytes: Buffer }
  | { readonly type: 'file'; readonly path: string }
  | { readonly type: 'piece'; readonly offset: number; readonly length: number }
  | { readonly type: 'lost'; readonly path: string; readonly copy: number };

const [bytesRecord, fileRecord, pieceRecord, lostRecord] = [0, 1, 2, 3];
const chunkBytes = 1 << 20;
const skippableMagic = 0x184d2a50;
/** Magic, length of what it holds (4), the length of the frame that follows. */
const frameHeadBytes = 12;

export class OriginalWriter {
  readonly #fd: number;
  readonly #chunk = Buffer.allocUnsafeSlow(chunkBytes);
  #used = 0;
  /** Where the length of the `bytes` record stands that may go on; -1 without one. */
  #open = -1;

  /** @param fd of an empty file; it stays the caller's */
  constructor(fd: number) {
    this.#fd = fd;
  }

  bytes(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      if (this.#open < 0) this.#begin();
      const copied = bytes.copy(this.#chunk, this.#used, done);
      this.#used += copied;
      done += copied;
      if (this.#used === chunkBytes) this.#flush();
    }
  }

  file(path: string): void {
    this.#reserve(3 + path.length);
    this.#used = this.#chunk.writeUInt8(fileRecord, this.#used);
    this.#path(path);
  }

  piece(offset: number, length: number): void {
    this.#reserve(17);
    this.#used = this.#chunk.writeUInt8(pieceRecord, this.#used);
    this.#used = this.#chunk.writeDoubleLE(offset, this.#used);
    this.#used = this.#chunk.writeDoubleLE(length, this.#used);
  }

  lost(path: string, copy: number): void {
    this.#reserve(7 + path.length);
    this.#used = this.#chunk.writeUInt8(lostRecord, this.#used);
    this.#used = this.#chunk.writeUInt32LE(copy, this.#used);
    this.#path(path);
  }

  finish(): void {
    if (this.#used > 0) this.#flush();
  }

  #begin(): void {
    // There is room for at least one byte after its head.
    this.#reserve(6);
    this.#open = this.#chunk.writeUInt8(bytesRecord, this.#used);
    this.#used = this.#open + 4;
  }

  #path(path: string): void {
    this.#used = this.#chunk.writeUInt16LE(path.length, this.#used);
    this.#used += this.#chunk.write(path, this.#used, 'latin1');
  }

  #reserve(length: number): void {
    this.#end();
    if (this.#used + length > chunkBytes) this.#flush();
  }

  #end(): void {
    if (this.#open >= 0) this.#chunk.writeUInt32LE(this.#used - this.#open - 4, this.#open);
    this.#open = -1;
  }

  #flush(): void {
    this.#end();
    const frame = zstdCompressSync(this.#chunk.subarray(0, this.#used), {
      // Headers are so much alike that more effort gains little.
      params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: 1 },
      chunkSize: 256 * 1024,
    });
    const head = Buffer.alloc(frameHeadBytes);
    head.writeUInt32LE(skippableMagic, 0);
    head.writeUInt32LE(4, 4);
    head.writeUInt32LE(frame.length, 8);
    this.#write(head);
    this.#write(frame);
    this.#used = 0;
  }

  #write(bytes: Buffer): void {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw fromNodeError(error, 'keep the archive');
    }
  }
}

/** Reads it from its beginning; each `bytes` is valid until the next record. @throws Unavailable when it is damaged */
export function* readRecords(fd: number, path: string): Generator<OriginalRecord, void, void> {
  for (let at = 0; ; ) {
    const head = read(fd, at, frameHeadBytes, path);
    if (head.length === 0) return;
    const isHead = head.length === frameHeadBytes && head.readUInt32LE(0) === skippableMagic;
    const length = isHead ? head.readUInt32LE(8) : 0;
    // No frame is longer than what it holds, but for a few bytes.
    if (length === 0 || length > 2 * chunkBytes) throw damaged(path);
    yield* parse(decompress(read(fd, at + frameHeadBytes, length, path), path), path);
    at += frameHeadBytes + length;
  }
}

function decompress(frame: Buffer, path: string): Buffer {
  try {
    return zstdDecompressSync(frame, { maxOutputLength: chunkBytes });
  } catch (cause) {
    throw damaged(path, cause);
  }
}

function* parse(chunk: Buffer, path: string): Generator<OriginalRecord, void, void> {
  const need = (at: number, length: number): number => {
    if (at + length > chunk.length) throw damaged(path);
    return at + length;
  };
  const pathAt = (at: number): string => {
    const start = need(at, 2);
    return chunk.toString('latin1', start, need(start, chunk.readUInt16LE(at)));
  };
  for (let at = 0; at < chunk.length; ) {
    const type = chunk[at];
    const start = at + 1;
    if (type === bytesRecord) {
      at = need(need(start, 4), chunk.readUInt32LE(start));
      yield { type: 'bytes', bytes: chunk.subarray(start + 4, at) };
    } else if (type === fileRecord) {
      const file = pathAt(start);
      at = start + 2 + file.length;
      yield { type: 'file', path: file };
    } else if (type === pieceRecord) {
      at = need(start, 16);
      yield { type: 'piece', offset: chunk.readDoubleLE(start), length: chunk.readDoubleLE(start + 8) };
    } else if (type === lostRecord) {
      const file = pathAt(need(start, 4));
      at = start + 6 + file.length;
      yield { type: 'lost', path: file, copy: chunk.readUInt32LE(start) };
    } else throw damaged(path);
  }
}

function read(fd: number, at: number, length: number, path: string): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  try {
    for (let got = -1; got !== 0 && done < length; done += got) {
      got = readSync(fd, bytes, done, length - done, at + done);
    }
  } catch (error) {
    throw fromNodeError(error, `read ${path}`);
  }
  return bytes.subarray(0, done);
}

function damaged(path: string, cause?: unknown): Unavailable {
  return new Unavailable(
    `${path} is damaged, so that the archive cannot be given back; remove the layer, and make it again`,
    {
      cause,
    },
  );
}
