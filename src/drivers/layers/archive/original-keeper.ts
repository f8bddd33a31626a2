import { closeSync, mkdirSync, openSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fromNodeError } from '../../../errors/from-errno.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { stepSync } from '../../../lib/fault.ts';
import type { Piece } from '../../../tar/content.ts';
import { deleteDirectory } from '../delete-directory.ts';
import type { Made } from './apply-made.ts';
import { copyPath, OriginalWriter, originalDirectory, recordsPath } from './original-format.ts';
import { LostContents } from './original-losses.ts';

/**
 * Keeps of an archive that is applied what gives it back to the byte, with the files that it made: the directory
 * `original` in the layer's own. It is made under another name, and appears in {@link finish}. Nothing here is brought
 * to the disk: that is the caller's business.
 *
 * Memory: 1 MiB, the pieces of one sparse file.
 */
export class OriginalKeeper {
  readonly #temporary: string;
  readonly #final: string;
  /** -1 when it is closed. */
  #fd: number;
  readonly #writer: OriginalWriter;
  readonly #losses: LostContents;
  /** Pairs of offset and length: what of the file under way has come. */
  #pieces: number[] = [];

  private constructor(directory: string, checkpoint: () => void) {
    this.#final = join(directory, originalDirectory);
    this.#temporary = join(directory, `new-${originalDirectory}`);
    mkdirSync(this.#temporary, { mode: 0o700 });
    this.#fd = openSync(recordsPath(this.#temporary), 'wx', 0o600);
    this.#writer = new OriginalWriter(this.#fd);
    this.#losses = new LostContents(number => copyPath(this.#temporary, number), checkpoint);
  }

  /** @param directory the absolute path of the layer's directory @param checkpoint throws when the work is to stop */
  static begin(directory: string, checkpoint: () => void): OriginalKeeper {
    try {
      return new OriginalKeeper(directory, checkpoint);
    } catch (error) {
      throw fromNodeError(error, `keep an archive in ${directory}`);
    }
  }

  /** Bytes of the archive that are content of no file. */
  readonly passed = (bytes: Buffer): void => this.#writer.bytes(bytes);

  /**
   * Has a file made, whose content comes now.
   * @param make is given the content, takes all of it, and tells where the file is, without links
   */
  file(content: Iterable<Piece>, make: (content: Iterable<Piece>) => string): string {
    this.#pieces = [];
    const path = make(this.#noted(content));
    if (this.#pieces.length > 0) this.#writer.file(path);
    for (let at = 0; at < this.#pieces.length; at += 2)
      this.#writer.piece(this.#pieces[at] as number, this.#pieces[at + 1] as number);
    return path;
  }

  /** What stands at a name in an open directory is about to be removed, with all that is below it. */
  removing(directory: number, name: Buffer, path: string, status: FileStatus, made: Made): void {
    for (const { path: lost, copy } of this.#losses.keep({ directory, name, path, status }, made))
      this.#writer.lost(lost, copy);
  }

  finish(): void {
    this.#writer.finish();
    this.#close();
    stepSync('layer.original', () => {
      try {
        renameSync(this.#temporary, this.#final);
      } catch (error) {
        throw fromNodeError(error, `make ${this.#final}`);
      }
    });
  }

  /** Instead of {@link finish}, or when that failed. */
  async discard(): Promise<void> {
    this.#close();
    await deleteDirectory(this.#temporary);
  }

  *#noted(content: Iterable<Piece>): Generator<Piece, void, void> {
    for (const piece of content) {
      const { offset, data } = piece;
      const pieces = this.#pieces;
      const last = pieces.length - 2;
      const end = last < 0 ? -1 : (pieces[last] as number) + (pieces[last + 1] as number);
      if (end === offset) pieces[last + 1] = (pieces[last + 1] as number) + data.length;
      else pieces.push(offset, data.length);
      yield piece;
    }
  }

  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** Deletes what an earlier archive, or an attempt that a crash ended, left in a layer's directory. */
export async function deleteOriginal(directory: string): Promise<void> {
  await deleteDirectory(join(directory, originalDirectory));
  await deleteDirectory(join(directory, `new-${originalDirectory}`));
}
