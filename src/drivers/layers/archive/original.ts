/** The task that gives an archive back to the byte: see `original-format.ts`. */
import { closeSync, constants, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { FailedPrecondition, Unavailable, VarveError } from '../../../errors/errors.ts';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { openat } from '../../../host/linux/file-calls.ts';
import { check } from '../../../host/linux/native.ts';
import { descriptorPath } from '../../../host/linux/safe-path.ts';
import { shownPath, TreeWalker } from '../../../host/linux/tree-walker.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import { bytesOfPath, nameOf, parentOf } from './apply-names.ts';
import type { TreeArgs } from './compare.ts';
import {
  copyPath,
  type OriginalRecord,
  originalDirectory,
  readRecords,
  recordsPath,
} from './original-format.ts';
import { PipeWriter } from './pipe-writer.ts';
import { type Ring, RingWriter } from './ring.ts';

export interface OriginalArgs {
  readonly tree: TreeArgs;
  /** The open directory `original`: its layer may get another place meanwhile. */
  readonly original: number;
  /** A blocking descriptor, which stays the caller's. */
  readonly sink: number;
  readonly ring: Ring;
}

/**
 * Writes the archive to a pipe, and past the digest. What a file holds now is taken as it is: the digest tells.
 * Memory: 3 MiB, and one text for each file that the archive replaced after it had made it.
 * @throws FailedPrecondition when a file is not there any more, or shorter; Aborted when the reader closes its end
 */
export function originalTask(args: OriginalArgs, context: TaskContext): void {
  const { tree, sink, ring } = args;
  const original = descriptorPath(args.original);
  const shown = recordsPath(join(tree.directory, originalDirectory));
  const records = () => recordsIn(original, shown);
  const digest = new RingWriter(ring, () => context.throwIfAborted());
  const output = new PipeWriter(sink, context);
  const write = (bytes: Buffer): void => {
    digest.write(bytes);
    output.write(bytes);
  };
  const contents = new Contents(tree.own, original, records);
  try {
    for (const record of records()) {
      if (record.type === 'bytes') write(record.bytes);
      else if (record.type === 'file') contents.open(record.path);
      else if (record.type === 'piece') contents.read(record.offset, record.length, write);
    }
    output.flush();
  } finally {
    contents.close();
    digest.end();
  }
}

type Records = Generator<OriginalRecord, void, void>;

/** @param shown its path, for messages */
function* recordsIn(original: string, shown: string): Records {
  const fd = open(recordsPath(original));
  try {
    yield* readRecords(fd, shown);
  } finally {
    closeSync(fd);
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw fromNodeError(error, `open ${path}`);
  }
}

/** Of one path: which copies hold what it was, by the number of `file` records before it was lost. */
interface Losses {
  readonly all: { readonly before: number; readonly copy: number }[];
  next: number;
}

/** What the files of a layer hold, or held when the archive replaced them later. */
class Contents {
  readonly #original: string;
  readonly #walker: TreeWalker;
  readonly #losses: ReadonlyMap<string, Losses>;
  readonly #piece = Buffer.allocUnsafeSlow(1 << 20);
  #files = 0;
  #path = '';
  #fd = -1;

  constructor(tree: number, original: string, records: () => Records) {
    this.#original = original;
    this.#walker = new TreeWalker(tree);
    this.#losses = existsSync(copyPath(original, 0)) ? lossesIn(records()) : new Map();
  }

  /** The next file of the archive. */
  open(path: string): void {
    this.#close();
    this.#path = path;
    const copy = this.#lost(path, this.#files++);
    this.#fd = copy === undefined ? this.#openInTree(path) : open(copyPath(this.#original, copy));
  }

  read(offset: number, length: number, write: (bytes: Buffer) => void): void {
    for (let done = 0; done < length; ) {
      const got = this.#read(offset + done, Math.min(this.#piece.length, length - done));
      if (got === 0) throw changed(this.#path);
      write(this.#piece.subarray(0, got));
      done += got;
    }
  }

  close(): void {
    this.#close();
    this.#walker.close();
  }

  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #read(at: number, length: number): number {
    try {
      return readSync(this.#fd, this.#piece, 0, length, at);
    } catch (error) {
      throw fromNodeError(error, `read ${shownPath(this.#path)}`);
    }
  }

  /** @param file how many came before it */
  #lost(path: string, file: number): number | undefined {
    const losses = this.#losses.get(path);
    if (losses === undefined) return undefined;
    while ((losses.all[losses.next]?.before ?? Number.POSITIVE_INFINITY) <= file) losses.next += 1;
    return losses.all[losses.next]?.copy;
  }

  #openInTree(path: string): number {
    // Should it have become a fifo, nothing waits for its other end.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const name = bytesOfPath(nameOf(path));
    try {
      this.#walker.goTo(parentOf(path));
      return check(openat(this.#walker.fd, name, flags), 'open', name);
    } catch (error) {
      if (!(error instanceof VarveError) || error instanceof Unavailable) throw error;
      throw changed(path, error);
    }
  }
}

function lossesIn(records: Records): ReadonlyMap<string, Losses> {
  const losses = new Map<string, Losses>();
  let before = 0;
  for (const record of records) {
    if (record.type === 'file') before += 1;
    if (record.type !== 'lost') continue;
    const known = losses.get(record.path);
    if (known === undefined) losses.set(record.path, { all: [{ before, copy: record.copy }], next: 0 });
    else known.all.push({ before, copy: record.copy });
  }
  return losses;
}

function changed(path: string, cause?: unknown): FailedPrecondition {
  return new FailedPrecondition(
    `the archive cannot be given back: ${shownPath(path)} is not what it made any more; verify the layer, and make it again`,
    { cause },
  );
}
