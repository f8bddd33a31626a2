/**
 * The header block: POSIX.1-2024, pax, "ustar Interchange Format". The older forms differ in that they have no
 * magic, or another one, and no prefix: v7, and GNU (GNU tar manual, "Basic Tar Format").
 */
import { noBytes, noDevice, type TarDevice } from './entry.ts';
import { fitsOctal, readNumber, writeOctal } from './numbers.ts';

export const blockSize = 512;

const zeroBlock = Buffer.alloc(blockSize);
const posixMagic = Buffer.from('ustar\0');
const slash = 0x2f;

/** Offset and length of each field. */
const fields = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
} as const;

type NumberField = 'mode' | 'uid' | 'gid' | 'size' | 'mtime' | 'checksum' | 'major' | 'minor';

/** What a header block says by itself. */
export interface Header {
  readonly path: Buffer;
  readonly linkPath: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Whole seconds. */
  readonly mtime: number;
  readonly device: TarDevice;
}

/** What is after `length` bytes up to the end of their last block. */
export function paddingOf(length: number): number {
  return (blockSize - (length % blockSize)) % blockSize;
}

export function isZero(block: Buffer): boolean {
  return block[0] === 0 && block.equals(zeroBlock);
}

/**
 * The sum of all bytes, the checksum itself taken as spaces; some old programs summed signed bytes.
 * @throws Malformed
 */
export function checksumMatches(block: Buffer): boolean {
  const wanted = numberAt(block, 'checksum', 'checksum');
  return wanted === checksum(block) || wanted === signedChecksum(block);
}

function checksum(block: Buffer): number {
  const [start, length] = fields.checksum;
  let sum = length * 0x20;
  for (let at = start; at < start + length; at += 1) sum -= block[at] as number;
  // Four at a time: of all that is done for an entry this takes longest.
  for (let at = 0; at < blockSize; at += 4) {
    sum += (block[at] as number) + (block[at + 1] as number);
    sum += (block[at + 2] as number) + (block[at + 3] as number);
  }
  return sum;
}

function signedChecksum(block: Buffer): number {
  const [start, length] = fields.checksum;
  const high = block.filter((byte, at) => byte >= 0x80 && (at < start || at >= start + length));
  return checksum(block) - 256 * high.length;
}

/** The type as its character; the NUL of v7 is `0`. */
export function typeOf(block: Buffer): string {
  const byte = block[fields.type[0]] as number;
  return byte === 0 ? '0' : String.fromCharCode(byte);
}

/** @throws Malformed */
export function sizeOf(block: Buffer): number {
  return numberAt(block, 'size', 'size');
}

/** @throws Malformed */
export function readHeader(block: Buffer): Header {
  const type = typeOf(block);
  return {
    path: pathOf(block),
    linkPath: textAt(block, fields.linkName),
    mode: numberAt(block, 'mode', 'mode') & 0o7777,
    uid: numberAt(block, 'uid', 'user id'),
    gid: numberAt(block, 'gid', 'group id'),
    size: sizeOf(block),
    mtime: numberAt(block, 'mtime', 'time'),
    device: type === '3' || type === '4' ? deviceOf(block) : noDevice,
  };
}

function deviceOf(block: Buffer): TarDevice {
  return {
    major: numberAt(block, 'major', 'device number'),
    minor: numberAt(block, 'minor', 'device number'),
  };
}

function pathOf(block: Buffer): Buffer {
  const name = textAt(block, fields.name);
  const hasPrefix = block[fields.prefix[0]] !== 0 && isPosix(block);
  return hasPrefix ? Buffer.concat([textAt(block, fields.prefix), Buffer.from('/'), name]) : name;
}

function isPosix(block: Buffer): boolean {
  const [start] = fields.magic;
  return block.compare(posixMagic, 0, posixMagic.length, start, start + posixMagic.length) === 0;
}

/** A copy, for the block is overwritten. What is after a NUL does not belong to the text. */
function textAt(block: Buffer, [start, length]: readonly [number, number]): Buffer {
  if (block[start] === 0) return noBytes;
  let end = start + 1;
  while (end < start + length && block[end] !== 0) end += 1;
  const text = Buffer.allocUnsafe(end - start);
  block.copy(text, 0, start, end);
  return text;
}

function numberAt(block: Buffer, field: NumberField, what: string): number {
  const [start, length] = fields[field];
  return readNumber(block, start, length, what);
}

/** Whether a header can say this number; what it cannot is in a PAX record. */
export function fitsField(field: NumberField, value: number): boolean {
  return fitsOctal(fields[field][1], value);
}

/** Whether a header can say this text whole. */
export function fitsName(field: 'path' | 'linkPath', text: Buffer): boolean {
  return text.length <= fields.name[1] || (field === 'path' && prefixEnd(text) !== undefined);
}

/** Writes a ustar header; what does not fit is the nearest that does. */
export function writeHeader(block: Buffer, type: string, header: Header): void {
  block.fill(0, 0, blockSize);
  writeName(block, header.path);
  block.set(header.linkPath.subarray(0, fields.linkName[1]), fields.linkName[0]);
  for (const field of ['mode', 'uid', 'gid', 'size', 'mtime'] as const) {
    writeNumber(block, field, header[field]);
  }
  writeNumber(block, 'major', header.device.major);
  writeNumber(block, 'minor', header.device.minor);
  block.write(type, fields.type[0], 'latin1');
  block.write('ustar\x0000', fields.magic[0], 'latin1');
  // Six digits, a NUL and a space, as all programs write it.
  writeOctal(block, fields.checksum[0], 7, checksum(block));
  block[fields.checksum[0] + 7] = 0x20;
}

function writeNumber(block: Buffer, field: NumberField, value: number): void {
  const [start, length] = fields[field];
  writeOctal(block, start, length, value);
}

function writeName(block: Buffer, path: Buffer): void {
  const end = path.length <= fields.name[1] ? undefined : prefixEnd(path);
  const name = end === undefined ? path : path.subarray(end + 1);
  if (end !== undefined) block.set(path.subarray(0, end), fields.prefix[0]);
  block.set(name.subarray(0, fields.name[1]), fields.name[0]);
}

/** Where a long path can be cut in prefix and name: at the last slash that leaves both short enough. */
function prefixEnd(path: Buffer): number | undefined {
  const end = path.subarray(0, fields.prefix[1] + 1).lastIndexOf(slash, path.length - 2);
  return end > 0 && path.length - end - 1 <= fields.name[1] ? end : undefined;
}
