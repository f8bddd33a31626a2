import { ftruncateSync, readSync, writeSync } from 'node:fs';
import { errnoName, fromNodeError } from '../../../errors/from-errno.ts';
import { cloneData, copyFileRange, seekData, seekHole } from '../../../host/linux/file-data.ts';
import { check } from '../../../host/linux/native.ts';

/** What says that two files cannot share data, or that the kernel cannot copy between them: bytes always can. */
const cannot = new Set(['EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS', 'EPERM']);
/** Between two looks at the clock, and whether to stop. */
const stepBytes = 16 * 1024 * 1024;
const ENXIO = 6;

/**
 * Copies the data of files between two trees, holes kept: shared where the file systems can (ioctl_ficlone(2)), else
 * by the kernel (copy_file_range(2)), else through our memory. What failed once is not tried again.
 */
export class DataCopier {
  #clone = true;
  #kernelCopies = true;
  readonly #piece = Buffer.alloc(1 << 20);

  /** @param into an empty file @param each is told how many bytes are done; what it throws ends the work */
  copy(from: number, into: number, size: number, each: (bytes: number) => void): void {
    if (size === 0) return;
    if (this.#clone && this.#done(cloneData(from, into), 'share the data of a file')) {
      each(size);
      return;
    }
    this.#clone = false;
    let at = 0;
    while (at < size) {
      const data = seekData(from, at);
      const start = data === -ENXIO ? size : check(data, 'look for data');
      each(Math.min(start, size) - at);
      const end = start < size ? Math.min(check(seekHole(from, start), 'look for a hole'), size) : size;
      this.#range(from, into, start, end, each);
      at = end;
    }
    truncate(into, size);
  }

  #range(from: number, into: number, start: number, end: number, each: (bytes: number) => void): void {
    for (let at = start; at < end; ) {
      const copied = this.#some(from, into, at, Math.min(stepBytes, end - at));
      // The file became shorter: what is missing stays a hole, as it would be in a reading right now.
      if (copied === 0) return;
      at += copied;
      each(copied);
    }
  }

  #some(from: number, into: number, at: number, length: number): number {
    if (this.#kernelCopies) {
      const copied = copyFileRange(from, into, at, length);
      if (this.#done(copied, 'copy a file')) return copied;
      this.#kernelCopies = false;
    }
    try {
      const got = readSync(from, this.#piece, 0, Math.min(length, this.#piece.length), at);
      for (let done = 0; done < got; ) done += writeSync(into, this.#piece, done, got - done, at + done);
      return got;
    } catch (error) {
      throw fromNodeError(error, 'copy a file');
    }
  }

  /** @returns false when it has to be done another way @throws for a failure that any way would meet */
  #done(result: number, action: string): boolean {
    if (result >= 0) return true;
    if (!cannot.has(errnoName(-result))) check(result, action);
    return false;
  }
}

function truncate(fd: number, size: number): void {
  try {
    ftruncateSync(fd, size);
  } catch (error) {
    throw fromNodeError(error, 'set the length of a file');
  }
}
