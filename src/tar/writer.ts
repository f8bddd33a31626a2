import { Aborted, InvalidArgument } from '../errors/errors.ts';
import { checkEntry } from './check.ts';
import { limits, noBytes, noDevice, type TarEntry, type TarType } from './entry.ts';
import { blockSize, fitsField, fitsName, type Header, paddingOf, writeHeader } from './header.ts';
import { Malformed, malformed, quoted } from './malformed.ts';
import { formatTime } from './numbers.ts';
import { formatRecord, xattrKeyword } from './pax.ts';

/** Where bytes go to; it may block. */
export interface ByteSink {
  /** Takes all of `bytes` before it returns: they are overwritten afterwards. */
  write(bytes: Buffer): void;
}

const typeLetters: Record<TarType, string> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

const bufferSize = 2 ** 20;
const zeros = Buffer.alloc(2 * blockSize);

/**
 * Writes PAX archives (POSIX.1-2024, pax). The same entries give the same bytes, however the content is cut.
 *
 * What fits a ustar header stands there alone; paths as they are, bytes, as all tar programs take them. Only the rest
 * has PAX records: long paths and link targets, large ids and sizes, extended attributes, and times that are not
 * whole seconds since 1970. Containerd and moby cut times to seconds; here a file comes back with the time it had.
 * There are no names of users and groups, no access or change times, and no sparse files.
 */
export class TarWriter {
  readonly #sink: ByteSink;
  readonly #buffer = Buffer.allocUnsafeSlow(bufferSize);
  #used = 0;
  #path: Buffer = noBytes;
  /** How much of the content is still to come. */
  #rest = 0;
  #padding = 0;

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  /**
   * Begins the next entry; of a file, its content must follow.
   * @throws InvalidArgument when an archive cannot hold it
   * @throws Aborted when content of the last entry is missing
   */
  entry(entry: TarEntry): void {
    this.#endContent();
    const records = this.#recordsOf(entry);
    if (records.length > 0) this.#extendedHeader(records);
    const header = headerOf(entry);
    this.#header(typeLetters[entry.type], header);
    this.#path = entry.path;
    this.#rest = header.size;
    this.#padding = paddingOf(header.size);
  }

  /** The next part of the content. @throws Aborted when it is more than the entry's size */
  content(data: Buffer): void {
    this.#rest -= data.length;
    if (this.#rest < 0) throw this.#changed();
    this.#write(data);
  }

  /** Ends the archive. @throws Aborted when content of the last entry is missing */
  finish(): void {
    this.#endContent();
    this.#write(zeros);
    this.#flush();
  }

  #endContent(): void {
    if (this.#rest !== 0) throw this.#changed();
    this.#write(zeros.subarray(0, this.#padding));
    this.#padding = 0;
  }

  #changed(): Aborted {
    return new Aborted(`the size of ${quoted(this.#path)} changed while it was read; try again`);
  }

  #recordsOf(entry: TarEntry): Buffer {
    try {
      checkEntry(entry);
      const records = recordsOf(entry);
      if (records.length > limits.header) throw malformed('it has too many extended attributes');
      return records;
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      throw new InvalidArgument(`an archive cannot hold ${quoted(entry.path)}: ${error.message}`);
    }
  }

  /** Its own name means nothing to those who know it. */
  #extendedHeader(records: Buffer): void {
    const path = Buffer.from('PaxHeader');
    const mtime = 0;
    const size = records.length;
    this.#header('x', {
      ...{ path, linkPath: noBytes, mode: 0o644, uid: 0, gid: 0 },
      ...{ size, mtime, device: noDevice },
    });
    this.#write(records);
    this.#write(zeros.subarray(0, paddingOf(size)));
  }

  #header(type: string, header: Header): void {
    if (this.#used + blockSize > bufferSize) this.#flush();
    writeHeader(this.#buffer.subarray(this.#used, this.#used + blockSize), type, header);
    this.#used += blockSize;
  }

  #write(bytes: Buffer): void {
    if (this.#used + bytes.length > bufferSize) this.#flush();
    if (bytes.length > bufferSize) {
      this.#sink.write(bytes);
      return;
    }
    bytes.copy(this.#buffer, this.#used);
    this.#used += bytes.length;
  }

  #flush(): void {
    if (this.#used > 0) this.#sink.write(this.#buffer.subarray(0, this.#used));
    this.#used = 0;
  }
}

function headerOf({ type, path, mode, uid, gid, size, mtime, linkPath, device }: TarEntry): Header {
  const isLink = type === 'hardlink' || type === 'symlink';
  const isDevice = type === 'character' || type === 'block';
  return {
    path: pathOf(type, path),
    linkPath: isLink ? linkPath : noBytes,
    mode,
    uid,
    gid,
    size: type === 'file' ? size : 0,
    mtime: mtime.seconds,
    device: isDevice ? device : noDevice,
  };
}

/** A directory has a slash at its end, for programs that know no type. */
function pathOf(type: TarType, path: Buffer): Buffer {
  const isWhole = type !== 'directory' || path.at(-1) === 0x2f;
  return isWhole ? path : Buffer.concat([path, Buffer.from('/')]);
}

/** What the header cannot say, sorted by keyword. */
function recordsOf(entry: TarEntry): Buffer {
  const { path, linkPath, size, uid, gid } = headerOf(entry);
  const { seconds, nanoseconds } = entry.mtime;
  const records: [keyword: string, value: Buffer | string][] = [];
  for (const [name, value] of entry.xattrs) records.push([xattrKeyword(name), value]);
  if (!fitsName('path', path)) records.push(['path', path]);
  if (!fitsName('linkPath', linkPath)) records.push(['linkpath', linkPath]);
  if (!fitsField('size', size)) records.push(['size', String(size)]);
  if (!fitsField('uid', uid)) records.push(['uid', String(uid)]);
  if (!fitsField('gid', gid)) records.push(['gid', String(gid)]);
  const isWhole = nanoseconds === 0 && fitsField('mtime', seconds);
  if (!isWhole) records.push(['mtime', formatTime(entry.mtime)]);
  if (records.length === 0) return noBytes;
  records.sort(([first], [second]) => (first < second ? -1 : 1));
  return Buffer.concat(records.map(([keyword, value]) => formatRecord(keyword, value)));
}
