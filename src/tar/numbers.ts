/**
 * The numbers of archives. In header fields: octal digits (POSIX.1-2024, pax, "ustar Interchange Format"), or
 * base-256 (GNU tar manual, "Basic Tar Format": the first bit set, then a big-endian two's complement). In PAX
 * records: decimal digits, and times with a fraction. A number that JavaScript cannot hold exactly is refused.
 */
import type { TarTime } from './entry.ts';
import { malformed } from './malformed.ts';

const space = 0x20;
const minus = 0x2d;
const dot = 0x2e;
const zero = 0x30;
const seven = 0x37;

/** A header field; one of only spaces and NULs is 0. @throws Malformed */
export function readNumber(block: Buffer, start: number, length: number, what: string): number {
  const first = block[start] as number;
  const value = first < 0x80 ? readOctal(block, start, length) : readBase256(block, start, length);
  if (Number.isNaN(value)) throw malformed(`its ${what} is not a number`);
  if (!Number.isSafeInteger(value)) throw malformed(`its ${what} is too large`);
  return value;
}

function readOctal(block: Buffer, start: number, length: number): number {
  const end = start + length;
  let at = start;
  while (at < end && isBlank(block[at] as number)) at += 1;
  let value = 0;
  for (; at < end; at += 1) {
    const digit = block[at] as number;
    if (isBlank(digit)) break;
    if (digit < zero || digit > seven) return Number.NaN;
    value = value * 8 + (digit - zero);
  }
  return value;
}

function isBlank(byte: number): boolean {
  return byte === 0 || byte === space;
}

function readBase256(block: Buffer, start: number, length: number): number {
  const first = block[start] as number;
  const isNegative = (first & 0x40) !== 0;
  const flip = isNegative ? 0xff : 0;
  let value = (first ^ flip) & 0x3f;
  for (let at = start + 1; at < start + length; at += 1) value = value * 256 + ((block[at] as number) ^ flip);
  return isNegative ? -value - 1 : value;
}

/** Writes octal digits with a NUL after them, or the nearest number that the field can hold. */
export function writeOctal(block: Buffer, start: number, length: number, value: number): void {
  let rest = Math.min(Math.max(value, 0), largestOctal(length));
  block[start + length - 1] = 0;
  for (let at = start + length - 2; at >= start; at -= 1) {
    block[at] = zero + (rest % 8);
    rest = Math.floor(rest / 8);
  }
}

/** Whether `writeOctal` writes this very number. */
export function fitsOctal(length: number, value: number): boolean {
  return value >= 0 && value <= largestOctal(length);
}

function largestOctal(length: number): number {
  return length === 8 ? 0o7777777 : 8 ** (length - 1) - 1;
}

/** Decimal digits and nothing else. @throws Malformed */
export function parseDecimal(text: Buffer, what: string, start = 0, end = text.length): number {
  if (start === end || digitsEnd(text, start, end) !== end) throw malformed(`its ${what} is not a number`);
  return readDecimal(text, what, start, end);
}

function digitsEnd(text: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && (text[at] as number) >= zero && (text[at] as number) <= zero + 9) at += 1;
  return at;
}

function readDecimal(text: Buffer, what: string, start: number, end: number): number {
  let value = 0;
  for (let at = start; at < end; at += 1) value = value * 10 + ((text[at] as number) - zero);
  if (!Number.isSafeInteger(value)) throw malformed(`its ${what} is too large`);
  return value;
}

/** Seconds with an optional fraction; what is finer than nanoseconds is cut off towards the past. @throws Malformed */
export function parseTime(text: Buffer): TarTime {
  const isNegative = text[0] === minus;
  const start = isNegative ? 1 : 0;
  const point = digitsEnd(text, start, text.length);
  const fraction = Math.min(point + 1, text.length);
  const isWhole = point === text.length || text[point] === dot;
  if (point === start || !isWhole || digitsEnd(text, fraction, text.length) !== text.length)
    throw malformed('its time is not a number');
  const seconds = readDecimal(text, 'time', start, point);
  let nanoseconds = 0;
  for (let at = fraction; at < fraction + 9; at += 1)
    nanoseconds = nanoseconds * 10 + ((text[at] ?? zero) - zero);
  if (!isNegative) return { seconds, nanoseconds };
  const isFiner = text.subarray(fraction + 9).some(digit => digit !== zero);
  const cut = nanoseconds + (isFiner ? 1 : 0);
  return cut === 0
    ? { seconds: 0 - seconds, nanoseconds: 0 }
    : { seconds: -seconds - 1, nanoseconds: 1e9 - cut };
}

/** The shortest text that `parseTime` reads as this time. */
export function formatTime({ seconds, nanoseconds }: TarTime): string {
  const isNegative = seconds < 0;
  const whole = isNegative && nanoseconds > 0 ? -seconds - 1 : Math.abs(seconds);
  const rest = isNegative && nanoseconds > 0 ? 1e9 - nanoseconds : nanoseconds;
  const fraction = rest === 0 ? '' : `.${String(rest).padStart(9, '0').replace(/0+$/, '')}`;
  return `${isNegative ? '-' : ''}${whole}${fraction}`;
}
