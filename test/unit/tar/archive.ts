/** Archives made by hand, block by block and without the code they test, and what is read of them. */
import { noBytes, noDevice, noXattrs, type TarEntry } from '../../../src/tar/entry.ts';
import { type ByteSource, TarReader } from '../../../src/tar/reader.ts';
import { TarWriter } from '../../../src/tar/writer.ts';

interface Fields {
  readonly name?: string | Buffer;
  readonly mode?: string;
  readonly uid?: string | Buffer;
  readonly gid?: string | Buffer;
  /** Octal digits, or the field itself. */
  readonly size?: string | Buffer;
  readonly mtime?: string | Buffer;
  readonly type?: string;
  readonly linkName?: string | Buffer;
  readonly magic?: string;
  readonly major?: string;
  readonly minor?: string;
  readonly prefix?: string;
  /** Anything else, by offset. */
  readonly more?: readonly (readonly [offset: number, value: string | Buffer])[];
  /** Sums the bytes as signed ones, as some old programs did. */
  readonly isSigned?: boolean;
}

export const posix = 'ustar\x0000';
export const gnu = 'ustar  \0';
export const v7 = '';
export const end = Buffer.alloc(1024);

const fields: readonly (readonly [keyof Fields, offset: number, usual: string])[] = [
  ['name', 0, 'name'],
  ['mode', 100, '0000644'],
  ['uid', 108, '0000000'],
  ['gid', 116, '0000000'],
  ['size', 124, '00000000000'],
  ['mtime', 136, '00000000000'],
  ['type', 156, '0'],
  ['linkName', 157, ''],
  ['magic', 257, posix],
  ['major', 329, '0000000'],
  ['minor', 337, '0000000'],
  ['prefix', 345, ''],
];

/** A header block; its numbers are octal digits. */
export function block(values: Fields = {}): Buffer {
  const header = Buffer.alloc(512);
  const put = (offset: number, value: string | Buffer): void => {
    Buffer.from(value as string, 'latin1').copy(header, offset);
  };
  for (const [field, offset, usual] of fields) put(offset, (values[field] as string | undefined) ?? usual);
  for (const [offset, value] of values.more ?? []) put(offset, value);
  header.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of header) sum += values.isSigned && byte >= 0x80 ? byte - 256 : byte;
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return header;
}

export function octal(value: number, digits = 11): string {
  return value.toString(8).padStart(digits, '0');
}

/** Data filled up to whole blocks. */
export function padded(data: string | Buffer): Buffer {
  const bytes = Buffer.from(data as string, 'latin1');
  return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

/** A header with its data. */
export function member(values: Fields, data: string | Buffer): Buffer {
  return Buffer.concat([block({ size: octal(data.length), ...values }), padded(data)]);
}

function record(keyword: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([
    Buffer.from(` ${keyword}=`, 'latin1'),
    Buffer.from(value as string, 'latin1'),
    Buffer.from('\n'),
  ]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length += 1;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** An extended header; each record is a keyword and its value. */
export function pax(
  records: readonly (readonly [keyword: string, value: string | Buffer])[],
  type = 'x',
): Buffer {
  return member(
    { type, name: 'PaxHeader' },
    Buffer.concat(records.map(([key, value]) => record(key, value))),
  );
}

export interface Member {
  readonly entry: TarEntry;
  /** With its holes filled. */
  readonly data: Buffer;
}

/** @param piece how many bytes each read gives at most */
export function sourceOf(bytes: Buffer, piece = Number.POSITIVE_INFINITY): ByteSource {
  let at = 0;
  return {
    read(into) {
      const count = bytes.copy(into, 0, at, Math.min(bytes.length, at + piece));
      at += count;
      return count;
    },
  };
}

export function readAll(source: ByteSource | Buffer): readonly Member[] {
  const reader = new TarReader(Buffer.isBuffer(source) ? sourceOf(source) : source);
  const members: Member[] = [];
  for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
    const data = Buffer.alloc(entry.size);
    for (const piece of reader.content()) piece.data.copy(data, piece.offset);
    members.push({ entry, data });
  }
  reader.drain();
  return members;
}

/** Reads an archive of the given parts, and an end mark, that holds one entry. */
export function readOne(...parts: readonly Buffer[]): Member {
  const [first, ...more] = readAll(Buffer.concat([...parts, end]));
  if (first === undefined || more.length > 0) throw new Error(`${more.length + (first ? 1 : 0)} entries`);
  return first;
}

export function entryOf(path: string, fields: Partial<TarEntry> = {}): TarEntry {
  const common = {
    path: Buffer.from(path, 'latin1'),
    type: 'file',
    size: 0,
    mode: 0o644,
    uid: 0,
    gid: 0,
  } as const;
  const mtime = { seconds: 0, nanoseconds: 0 };
  return { ...common, mtime, linkPath: noBytes, device: noDevice, xattrs: noXattrs, ...fields };
}

/** @param cut in how many bytes the content is handed over at a time */
export function writeAll(members: readonly Member[], cut = Number.POSITIVE_INFINITY): Buffer {
  const parts: Buffer[] = [];
  const writer = new TarWriter({ write: bytes => void parts.push(Buffer.from(bytes)) });
  for (const { entry, data } of members) {
    writer.entry(entry);
    for (let at = 0; at < data.length; at += cut) writer.content(data.subarray(at, at + cut));
  }
  writer.finish();
  return Buffer.concat(parts);
}
