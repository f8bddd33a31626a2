/**
 * The file `digests` beside a layer's tree: what each of its entries was when it was written, so that a later
 * reading can tell damage from change.
 *
 * Little-endian: the line `varve-digests 1`, the records in the order in which they were made, and at the end the
 * number of records (8 bytes) and the CRC-32 of all that precedes (4 bytes). A later record of a path replaces an
 * earlier one. Nothing here is brought to the disk: that is the caller's business.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { Unimplemented } from '../../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../../errors/from-errno.ts';
import type { FileType } from '../../../host/linux/file-status.ts';
import { stepSync } from '../../../lib/fault.ts';

const magic = Buffer.from('varve-digests 1\n');
const fileName = 'digests';
const headBytes = 28;
const tailBytes = 12;
const chunkBytes = 256 * 1024;
const longestPath = 0xffff;

/** By the number that stands in a record. */
const types: readonly (FileType | 'gone')[] = [
  ...(['gone', 'file', 'directory', 'symlink', 'character', 'block', 'fifo', 'socket'] as const),
];

export interface DigestRecord {
  /** Relative to the tree, without a slash at either end; empty for its top. */
  readonly path: Buffer;
  readonly type: FileType;
  /** Length of a regular file, otherwise 0. */
  readonly size: number;
  /** CRC-32 of a regular file's bytes with holes as zeros, otherwise 0. */
  readonly content: number;
  /** {@link attributesCrc} */
  readonly attributes: number;
  /** When the inode last changed, in nanoseconds since 1970. */
  readonly ctimeNs: bigint;
}

/** What stands in an inode beside the data; times of last access and change are none of it. */
export interface EntryAttributes {
  readonly type: FileType;
  /** Permission bits, as in chmod(2); a symbolic link has none that matter. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  /** Where a symbolic link points to, otherwise empty. */
  readonly linkTarget: Buffer;
  /** Of a device, otherwise 0 and 0. */
  readonly device: { readonly major: number; readonly minor: number };
  /** As on the disk, those of the union included; names as latin1 text. */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** The host's policy sets this label and may change it at any time: it is not part of a layer. */
export const hostLabel = 'security.selinux';

const fixedPart = Buffer.alloc(31);

/** One number for all attributes; the order in which the extended ones come does not matter. */
export function attributesCrc(entry: EntryAttributes): number {
  fixedPart.writeUInt8(types.indexOf(entry.type), 0);
  fixedPart.writeUInt16LE(entry.type === 'symlink' ? 0 : entry.mode, 1);
  fixedPart.writeUInt32LE(entry.uid, 3);
  fixedPart.writeUInt32LE(entry.gid, 7);
  fixedPart.writeBigInt64LE(entry.mtimeNs, 11);
  fixedPart.writeUInt32LE(entry.device.major, 19);
  fixedPart.writeUInt32LE(entry.device.minor, 23);
  fixedPart.writeUInt32LE(entry.linkTarget.length, 27);
  const crc = crc32(entry.linkTarget, crc32(fixedPart));
  return entry.xattrs.size === 0 ? crc : xattrsCrc(entry.xattrs, crc);
}

function xattrsCrc(xattrs: ReadonlyMap<string, Buffer>, start: number): number {
  const lengths = Buffer.alloc(8);
  return [...xattrs.keys()]
    .filter(name => name !== hostLabel)
    .sort()
    .reduce((crc, name) => {
      const value = xattrs.get(name) ?? Buffer.alloc(0);
      lengths.writeUInt32LE(name.length, 0);
      lengths.writeUInt32LE(value.length, 4);
      return crc32(value, crc32(Buffer.from(name, 'latin1'), crc32(lengths, crc)));
    }, start);
}

/**
 * Writes the file anew, beginning with what a sound one held. The new file takes the place of the old one in
 * {@link finish}, and not at all when that is not called.
 */
export class DigestWriter {
  readonly #temporary: string;
  readonly #final: string;
  /** -1 when it is closed. */
  #fd: number;
  readonly #chunk = Buffer.alloc(chunkBytes);
  #used = 0;
  #crc = 0;
  #records = 0n;

  /** @param directory the absolute path of the layer's directory @param keep whether to begin with the old records */
  constructor(directory: string, keep = true) {
    this.#final = join(directory, fileName);
    this.#temporary = join(directory, `new-${fileName}`);
    const old = keep ? readDigests(this.#final) : undefined;
    this.#fd = attempt(`write ${this.#temporary}`, () => openSync(this.#temporary, 'w', 0o600));
    this.#put(magic);
    if (old === undefined || old === 'damaged') return;
    for (const record of old.values()) this.add(record);
  }

  add(record: DigestRecord): void {
    this.#record(types.indexOf(record.type), record);
  }

  /** The entry was deleted, with all that was below it. */
  forget(path: Buffer): void {
    this.#record(0, { path, size: 0, content: 0, attributes: 0, ctimeNs: 0n });
  }

  finish(): void {
    const tail = Buffer.alloc(tailBytes);
    tail.writeBigUInt64LE(this.#records, 0);
    this.#put(tail.subarray(0, 8));
    this.#flush();
    tail.writeUInt32LE(this.#crc, 8);
    attempt(`write ${this.#temporary}`, () => writeSync(this.#fd, tail, 8, 4));
    this.#close();
    stepSync('layer.digests', () =>
      attempt(`replace ${this.#final}`, () => renameSync(this.#temporary, this.#final)),
    );
  }

  /** Instead of {@link finish}, or when that failed: the old file stays as it was. */
  discard(): void {
    this.#close();
    rmSync(this.#temporary, { force: true });
  }

  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #record(type: number, record: Omit<DigestRecord, 'type'>): void {
    const { path } = record;
    if (path.length > longestPath) {
      throw new Unimplemented(
        `a path of ${path.length} bytes cannot be recorded in ${this.#final}; at most ${longestPath} are possible`,
      );
    }
    const length = headBytes + path.length;
    if (this.#used + length > chunkBytes) this.#flush();
    const [chunk, at] = [this.#chunk, this.#used];
    chunk.writeUInt16LE(type, at);
    chunk.writeUInt16LE(path.length, at + 2);
    chunk.writeUInt32LE(record.attributes, at + 4);
    chunk.writeUInt32LE(record.content, at + 8);
    chunk.writeBigUInt64LE(BigInt(record.size), at + 12);
    chunk.writeBigInt64LE(record.ctimeNs, at + 20);
    path.copy(chunk, at + headBytes);
    this.#used += length;
    this.#records += 1n;
  }

  #put(bytes: Buffer): void {
    if (this.#used + bytes.length > chunkBytes) this.#flush();
    this.#used += bytes.copy(this.#chunk, this.#used);
  }

  #flush(): void {
    const bytes = this.#chunk.subarray(0, this.#used);
    this.#crc = crc32(bytes, this.#crc);
    attempt(`write ${this.#temporary}`, () => {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    });
    this.#used = 0;
  }
}

/** Records by path as latin1 text, which keeps every byte. */
export type Digests = ReadonlyMap<string, DigestRecord>;

/** Where a layer's digests are. @param directory the absolute path of the layer's directory */
export function digestsPath(directory: string): string {
  return join(directory, fileName);
}

/** @returns undefined when there is no such file, `damaged` for one that is not as it was written */
export function readDigests(path: string): Digests | 'damaged' | undefined {
  const bytes = attempt(`read ${path}`, () => {
    try {
      return readFileSync(path);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined;
      if (errorCode(error) === 'EIO') return Buffer.alloc(0);
      throw error;
    }
  });
  if (bytes === undefined) return undefined;
  return isSound(bytes) ? parse(bytes) : 'damaged';
}

function isSound(bytes: Buffer): boolean {
  if (bytes.length < magic.length + tailBytes) return false;
  if (!bytes.subarray(0, magic.length).equals(magic)) return false;
  return crc32(bytes.subarray(0, -4)) === bytes.readUInt32LE(bytes.length - 4);
}

function parse(bytes: Buffer): Digests {
  const end = bytes.length - tailBytes;
  const records = new Map<string, DigestRecord>();
  const born = new Map<string, number>();
  const gone = new Map<string, number>();
  for (let at = magic.length; at < end; ) {
    const next = at + headBytes + bytes.readUInt16LE(at + 2);
    const path = bytes.subarray(at + headBytes, next);
    const key = path.toString('latin1');
    const type = types[bytes.readUInt16LE(at)];
    if (type === undefined || type === 'gone') gone.set(key, at);
    else records.set(key, readRecord(bytes, at, type, path));
    born.set(key, at);
    at = next;
  }
  if (gone.size > 0) dropGone(records, born, gone);
  return records;
}

function readRecord(bytes: Buffer, at: number, type: FileType, path: Buffer): DigestRecord {
  return {
    path,
    type,
    attributes: bytes.readUInt32LE(at + 4),
    content: bytes.readUInt32LE(at + 8),
    size: Number(bytes.readBigUInt64LE(at + 12)),
    ctimeNs: bytes.readBigInt64LE(at + 20),
  };
}

/** Drops what was recorded before it, or a directory above it, was deleted. */
function dropGone(
  records: Map<string, DigestRecord>,
  born: ReadonlyMap<string, number>,
  gone: ReadonlyMap<string, number>,
): void {
  const goneSince = new Map([['', gone.get('') ?? -1]]);
  for (const path of records.keys()) {
    const unknown: string[] = [];
    let above = path;
    // Up to what is known already, or else deep trees would take a time that grows with the square of their depth.
    for (; !goneSince.has(above); above = above.slice(0, Math.max(0, above.lastIndexOf('/'))))
      unknown.push(above);
    let since = goneSince.get(above) ?? -1;
    for (const each of unknown.reverse()) {
      since = Math.max(since, gone.get(each) ?? -1);
      goneSince.set(each, since);
    }
    if (since >= (born.get(path) ?? 0)) records.delete(path);
  }
}

function attempt<T>(action: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw fromNodeError(error, action);
  }
}
