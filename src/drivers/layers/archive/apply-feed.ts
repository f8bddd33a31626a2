/** The main thread's part of unpacking: it opens and decompresses an archive, and never waits for a full pipe. */
import { closeSync, constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Socket } from 'node:net';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Archive } from '../../../core/layers/layer-store.ts';
import { InvalidArgument, type VarveError } from '../../../errors/errors.ts';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { openPipe } from '../../../host/linux/pipe.ts';
import { cancelled } from '../../../lib/worker-pool.ts';
import { cutFrames, isZstd } from './zstd-frames.ts';

/** The default of 16 KiB costs half of the speed. */
const chunkSize = 1 << 20;
/** The longest of the magic numbers. */
const magicBytes = 4;

/** An archive as a worker reads it. */
export interface Feed {
  /** Open until `close`. */
  readonly fd: number;
  /** Whether it is the uncompressed archive itself, or else a pipe that is being filled. */
  readonly isFile: boolean;
  /** As received, in bytes; undefined when nobody knows. */
  readonly totalBytes: number | undefined;
  /** How many of those were used, when the worker does not read them itself. */
  doneBytes(): number;
  /** Rejects when the archive could not be read or decompressed to its end. */
  readonly filled: Promise<void>;
  /** Why; it is known before the worker sees the pipe end. */
  failure(): VarveError | undefined;
  /** Ends the filling, too. */
  close(): Promise<void>;
}

/**
 * @param signal ends the filling
 * @throws Aborted; NotFound and the like for a file that cannot be opened; InvalidArgument when it is none
 */
export async function openFeed(archive: Archive, signal: AbortSignal): Promise<Feed> {
  if (signal.aborted) throw cancelled('apply');
  if (!('path' in archive)) return fillPipe(archive, undefined, signal);
  const { path } = archive;
  // A fifo would keep us, and a thread of Node's, waiting for its other end.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw fromNodeError(error, `open the archive ${path}`);
  });
  try {
    return await openFile(file, path, signal);
  } catch (error) {
    await file.close();
    throw fromNodeError(error, `read the archive ${path}`);
  }
}

async function openFile(file: FileHandle, path: string, signal: AbortSignal): Promise<Feed> {
  const status = await file.stat();
  if (!status.isFile()) throw noFile(path);
  const { size: totalBytes } = status;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(magicBytes), 0, magicBytes, 0);
  if (decompressor(buffer.subarray(0, bytesRead)) === undefined) {
    const close = () => file.close();
    return {
      fd: file.fd,
      isFile: true,
      totalBytes,
      doneBytes: () => 0,
      filled: Promise.resolve(),
      failure: () => undefined,
      close,
    };
  }
  return fillPipe(file.createReadStream({ highWaterMark: chunkSize, start: 0 }), totalBytes, signal);
}

interface Decompressor {
  /** Makes the pieces that the stream can have. */
  readonly cut: (bytes: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
  readonly stream: Transform;
}

/** What undoes the compression that the first bytes tell. */
function decompressor(start: Buffer): Decompressor | undefined {
  if (start.toString('hex').startsWith('1f8b'))
    return { cut: bytes => bytes, stream: createGunzip({ chunkSize }) };
  if (isZstd(start)) return { cut: cutFrames, stream: createZstdDecompress({ chunkSize }) };
  return undefined;
}

function fillPipe(
  bytes: AsyncIterable<Uint8Array>,
  totalBytes: number | undefined,
  signal: AbortSignal,
): Feed {
  const stop = new AbortController();
  const { reader, writer } = openPipe();
  const filler = new Filler(bytes, writer, AbortSignal.any([signal, stop.signal]));
  const filled = filler.fill();
  // Who waits for it sees the failure as well.
  filled.catch(() => undefined);
  const close = async () => {
    stop.abort();
    closeSync(reader);
  };
  const { doneBytes, failure } = filler;
  return { fd: reader, isFile: false, totalBytes, doneBytes, filled, failure, close };
}

class Filler {
  readonly #bytes: AsyncGenerator<Uint8Array>;
  readonly #sink: Socket;
  readonly #signal: AbortSignal;
  #doneBytes = 0;
  #failure: VarveError | undefined;

  constructor(bytes: AsyncIterable<Uint8Array>, writer: number, signal: AbortSignal) {
    this.#bytes = this.#counted(bytes);
    this.#sink = new Socket({ fd: writer, readable: false, writable: true });
    this.#signal = signal;
    // At once, and not when the source answers: it may never do.
    const end = () => void this.#sink.destroy();
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  }

  readonly doneBytes = (): number => this.#doneBytes;
  readonly failure = (): VarveError | undefined => this.#failure;

  async fill(): Promise<void> {
    try {
      const { start, all } = await peek(this.#bytes);
      const decompress = decompressor(start);
      decompress?.stream.once('error', error => this.#fail(error));
      const source = Readable.from(all, { objectMode: false, highWaterMark: chunkSize });
      const options = { signal: this.#signal };
      if (decompress === undefined) await pipeline(source, this.#sink, options);
      else {
        const { cut, stream } = decompress;
        await pipeline(source, bytes => this.#failing(cut(bytes)), stream, this.#sink, options);
      }
    } catch (error) {
      this.#sink.destroy();
      throw this.#failure ?? feedError(error);
    } finally {
      // Not awaited: a source that gives nothing does not end, either.
      this.#bytes.return(undefined).catch(() => undefined);
    }
  }

  async *#counted(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#failing(bytes)) {
      this.#doneBytes += chunk.length;
      yield chunk;
    }
  }

  /** The same bytes; should they fail, it is known before anybody sees them end. */
  async *#failing(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* bytes;
    } catch (error) {
      throw this.#fail(error);
    }
  }

  #fail(error: unknown): VarveError {
    const failure = feedError(error);
    // What fails after that fails because of it.
    if (!this.#signal.aborted) this.#failure ??= failure;
    return failure;
  }
}

/** The first bytes, and an iteration that begins with them. */
async function peek(
  bytes: AsyncGenerator<Uint8Array>,
): Promise<{ readonly start: Buffer; readonly all: AsyncIterable<Uint8Array> }> {
  let start = Buffer.alloc(0);
  while (start.length < magicBytes) {
    const { value, done } = await bytes.next();
    if (done) break;
    start = Buffer.concat([start, value]);
  }
  const all = async function* () {
    yield start;
    yield* bytes;
  };
  return { start: start.subarray(0, magicBytes), all: all() };
}

function noFile(path: string): InvalidArgument {
  return new InvalidArgument(`the archive ${path} is not a file; name one, or send the bytes of the archive`);
}

function feedError(error: unknown): VarveError {
  // Not errorCode(): the numbers of zlib are those of other failures.
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code.startsWith('Z_') || code.startsWith('ZSTD_')) {
    return new InvalidArgument(`the archive cannot be decompressed (${code}); it is cut off or damaged`, {
      cause: error,
    });
  }
  return fromNodeError(error, 'read the archive');
}
