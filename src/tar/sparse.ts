/**
 * Maps of sparse files, read only: GNU tar manual, "Storing Sparse Files". A map is the pieces of data as pairs of
 * offset and length, one after another in one array; what is between them are holes.
 */
import { limits, noBytes } from './entry.ts';
import { blockSize } from './header.ts';
import type { Input } from './input.ts';
import { malformed } from './malformed.ts';
import { parseDecimal, readNumber } from './numbers.ts';

export interface SparseFile {
  /** Holes included. */
  readonly size: number;
  readonly map: readonly number[];
  /** How many bytes of the archive the map occupied, in front of the data. */
  readonly mapBytes: number;
}

/** What the PAX records of a sparse file say. */
export class SparseRecords {
  major: number | undefined;
  minor: number | undefined;
  name: Buffer | undefined;
  size: number | undefined;
  count: number | undefined;
  map: number[] = [];
}

/** @param stored how many bytes of data are in the archive @throws Malformed */
export function checkMap({ size, map }: SparseFile, stored: number): void {
  let end = 0;
  let sum = 0;
  for (let at = 0; at < map.length; at += 2) {
    const [offset = 0, length = 0] = [map[at], map[at + 1]];
    if (offset < end) throw malformed('the pieces of its sparse map overlap or are out of order');
    end = offset + length;
    sum += length;
    if (end > size) throw malformed('a piece of its sparse map is beyond the end of the file');
  }
  if (sum !== stored) throw malformed('its sparse map does not match the data that is stored');
}

/** The old form: type S, four pieces in the header and 21 in each block after it. @throws Malformed */
export function readOldMap(header: Buffer, input: Input): SparseFile {
  const size = readNumber(header, 483, 12, 'sparse size');
  const map: number[] = [];
  addPieces(map, header, 386, 4);
  for (let isExtended = header[482] !== 0; isExtended; ) {
    const block = input.bytes(blockSize);
    addPieces(map, block, 0, 21);
    isExtended = block[504] !== 0;
  }
  return { size, map, mapBytes: 0 };
}

function addPieces(map: number[], block: Buffer, start: number, count: number): void {
  for (let at = start; at < start + 24 * count; at += 24) {
    // An unused piece: GNU tar ends its reading here.
    if (block[at + 12] === 0) return;
    const offset = readNumber(block, at, 12, 'sparse map');
    addNumber(map, offset);
    addNumber(map, readNumber(block, at + 12, 12, 'sparse map'));
  }
}

/** @throws Malformed for a negative number, and beyond the limit */
export function addNumber(map: number[], value: number): void {
  if (value < 0) throw malformed('its sparse map holds a negative number');
  if (map.length === 2 * limits.pieces)
    throw malformed(`its sparse map has more than ${limits.pieces} pieces`);
  map.push(value);
}

/** Forms 0.0 and 0.1 have the map in the PAX header, 1.0 in front of the data. @throws Malformed */
export function readPaxMap(records: SparseRecords, stored: number, input: Input): SparseFile {
  const { major = 0, minor = 0, size, count, map } = records;
  if (size === undefined) throw malformed('it is sparse and has no size');
  if (major === 1 && minor === 0) return { size, ...readMapInData(stored, input) };
  if (major !== 0 || minor > 1) throw malformed(`its sparse form ${major}.${minor} is not known`);
  if (map.length % 2 !== 0 || (count ?? map.length / 2) !== map.length / 2) {
    throw malformed('its sparse map is incomplete');
  }
  return { size, map, mapBytes: 0 };
}

/** Decimal numbers with a line feed after each: how many pieces, then the pieces; filled up to a whole block. */
function readMapInData(stored: number, input: Input): { map: number[]; mapBytes: number } {
  const lines = new Lines(stored, input);
  const count = lines.number();
  if (count > limits.pieces) throw malformed(`its sparse map has more than ${limits.pieces} pieces`);
  const map: number[] = [];
  for (let at = 0; at < 2 * count; at += 1) map.push(lines.number());
  return { map, mapBytes: lines.bytes };
}

class Lines {
  readonly #stored: number;
  readonly #input: Input;
  #block: Buffer = noBytes;
  #at = 0;
  bytes = 0;

  constructor(stored: number, input: Input) {
    this.#stored = stored;
    this.#input = input;
  }

  number(): number {
    const digits: number[] = [];
    for (let byte = this.#byte(); byte !== 0x0a; byte = this.#byte()) {
      // More digits than any number that is read.
      if (digits.length === 20) throw malformed('its sparse map is not a list of numbers');
      digits.push(byte);
    }
    return parseDecimal(Buffer.from(digits), 'sparse map');
  }

  #byte(): number {
    if (this.#at === this.#block.length) {
      if (this.bytes + blockSize > this.#stored) throw malformed('its sparse map is incomplete');
      this.#block = this.#input.bytes(blockSize);
      this.bytes += blockSize;
      this.#at = 0;
    }
    return this.#block[this.#at++] as number;
  }
}
