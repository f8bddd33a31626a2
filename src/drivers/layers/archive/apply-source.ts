import { readSync } from 'node:fs';
import { fromNodeError } from '../../../errors/from-errno.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import type { ByteSource } from '../../../tar/reader.ts';
import type { RingWriter } from './ring.ts';

const progressEveryMs = 100;

/** The bytes of an archive, which pass by the digest, from a file or from the blocking end of a pipe. */
export class ArchiveSource implements ByteSource {
  readonly #fd: number;
  readonly #isFile: boolean;
  readonly #digest: RingWriter;
  readonly #context: TaskContext;
  #offset = 0;
  #reportedAt = 0;

  constructor(fd: number, isFile: boolean, digest: RingWriter, context: TaskContext) {
    this.#fd = fd;
    this.#isFile = isFile;
    this.#digest = digest;
    this.#context = context;
  }

  get bytesRead(): number {
    return this.#offset;
  }

  read(into: Buffer): number {
    const length = this.#read(into);
    // Who stops the work closes the pipe as well: that is not the end of the archive.
    this.#context.throwIfAborted();
    this.#digest.write(into.subarray(0, length));
    this.#offset += length;
    this.#report(length === 0);
    return length;
  }

  #read(into: Buffer): number {
    try {
      return readSync(this.#fd, into, 0, into.length, this.#isFile ? this.#offset : null);
    } catch (error) {
      throw fromNodeError(error, 'read the archive');
    }
  }

  #report(isEnd: boolean): void {
    const now = performance.now();
    if (!isEnd && now - this.#reportedAt < progressEveryMs) return;
    this.#reportedAt = now;
    this.#context.progress(this.#offset);
  }
}
