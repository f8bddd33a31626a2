import { readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { seekData, seekHole } from '../../../host/linux/file-data.ts';
import { check } from '../../../host/linux/native.ts';

const ENXIO = 6;
const pieces = Buffer.alloc(512 * 1024);

/**
 * CRC-32 of an open file, holes as zeros that are not read, however large they are.
 * @param each is told how many bytes of data were read; what it throws ends the work
 */
export function contentCrc(fd: number, size: number, each: (bytes: number) => void): number {
  let crc = 0;
  let at = 0;
  while (at < size) {
    const data = seekData(fd, at);
    const start = data === -ENXIO ? size : Math.min(check(data, 'look for data'), size);
    crc = crcOfZeros(crc, start - at);
    at = start;
    const end = at < size ? Math.min(check(seekHole(fd, at), 'look for a hole'), size) : size;
    while (at < end) {
      const length = read(fd, Math.min(pieces.length, end - at), at);
      if (length === 0) return crc;
      crc = crc32(pieces.subarray(0, length), crc);
      at += length;
      each(length);
    }
  }
  return crc;
}

function read(fd: number, length: number, at: number): number {
  try {
    return readSync(fd, pieces, 0, length, at);
  } catch (error) {
    throw fromNodeError(error, 'read a file');
  }
}

/** A linear map of 32 bits: for each bit what it becomes. */
type Matrix = Uint32Array;

/**
 * CRC-32 of something followed by `length` zero bytes, from the CRC-32 of something, in a time that grows with the
 * logarithm of the length: each zero bit is one linear step of the register, and steps can be squared
 * (the method of crc32_combine in zlib).
 */
export function crcOfZeros(crc: number, length: number): number {
  // The register before the final inversion.
  let register = ~crc >>> 0;
  let square = oneZeroByte();
  for (let rest = length; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) register = times(square, register);
    if (rest > 1) square = squared(square);
  }
  return ~register >>> 0;
}

function oneZeroByte(): Matrix {
  const bit = Uint32Array.from({ length: 32 }, (_, index) => (index === 0 ? 0xedb88320 : 2 ** (index - 1)));
  return squared(squared(squared(bit)));
}

function squared(matrix: Matrix): Matrix {
  return matrix.map(column => times(matrix, column));
}

function times(matrix: Matrix, vector: number): number {
  let sum = 0;
  for (let [bits, index] = [vector, 0]; bits !== 0; bits >>>= 1, index += 1) {
    if (bits & 1) sum ^= matrix[index] ?? 0;
  }
  return sum >>> 0;
}
