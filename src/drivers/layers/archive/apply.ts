/**
 * Unpacks an archive into a layer: OCI image spec, layer.md, "Applying Changesets". The tree then looks as if the
 * archive had been unpacked over what the layer shows, whichever form it has on the disk.
 *
 * Memory: 1 MiB of the archive, 4 MiB for the digest and as much for files that another worker is writing, of which
 * at most 256 are open; at most 64 open directories, what is remembered of at most
 * 65 536 files and as many links (about 200 bytes each, with their paths); and for a layer that held something
 * before, one text for each path of the archive.
 */
import { readNames } from '../../../host/linux/file-calls.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import type { TarEntry } from '../../../tar/entry.ts';
import { TarReader } from '../../../tar/reader.ts';
import { AttributeWriter } from './apply-attributes.ts';
import { Directories } from './apply-directories.ts';
import { EntryMaker } from './apply-entries.ts';
import { LinkMaker } from './apply-links.ts';
import { Made } from './apply-made.ts';
import { cleanPath, meaningOf, parentOf } from './apply-names.ts';
import { describe, OpenDirectories } from './apply-open.ts';
import { Records } from './apply-records.ts';
import { Removal } from './apply-removal.ts';
import { ArchiveSource } from './apply-source.ts';
import { Whiteouts } from './apply-whiteouts.ts';
import type { TreeArgs } from './compare.ts';
import { DigestWriter } from './digests.ts';
import { type FileQueue, FileSender } from './file-queue.ts';
import { deleteOriginal, OriginalKeeper } from './original-keeper.ts';
import { type Ring, RingWriter } from './ring.ts';

export interface ApplyArgs {
  readonly tree: TreeArgs;
  /** The uncompressed archive: a file, or the reading end of a pipe. It stays open. */
  readonly archive: { readonly fd: number; readonly isFile: boolean };
  /** Leads to the digest. */
  readonly ring: Ring;
  /** Leads to who writes the files. */
  readonly files: FileQueue;
  readonly keepOriginal: boolean;
}

export interface Unpacked {
  /** Length of the archive. */
  readonly size: number;
  readonly bytes: number;
  readonly entries: number;
}

/** Runs in a worker; its progress is the number of bytes read. @throws as {@link LayerStore.apply} */
export async function applyTask(args: ApplyArgs, context: TaskContext): Promise<Unpacked> {
  const { tree, archive, ring } = args;
  const digest = new RingWriter(ring, () => context.throwIfAborted());
  const digests = new DigestWriter(tree.directory);
  const checkpoint = () => context.throwIfAborted();
  const records = new Records(digests);
  const files = new FileSender(args.files, checkpoint, (path, answer) => records.file(path, answer));
  let original: OriginalKeeper | undefined;
  try {
    await deleteOriginal(tree.directory);
    if (args.keepOriginal) original = OriginalKeeper.begin(tree.directory, checkpoint);
    const source = new ArchiveSource(archive.fd, archive.isFile, digest, context);
    const unpacker = new Unpacker(tree, { records, files, original, checkpoint });
    const unpacked = unpacker.run(new TarReader(source, original?.passed));
    original?.finish();
    digests.finish();
    return { ...unpacked, size: source.bytesRead };
  } catch (error) {
    digests.discard();
    await original?.discard();
    throw error;
  } finally {
    digest.end();
    files.end();
  }
}

class Unpacker {
  readonly #open: OpenDirectories;
  readonly #directories: Directories;
  readonly #removal: Removal;
  readonly #records: Records;
  readonly #files: FileSender;
  readonly #made: Made;
  readonly #entries: EntryMaker;
  readonly #links: LinkMaker;
  readonly #whiteouts: Whiteouts;
  readonly #original: OriginalKeeper | undefined;
  readonly #checkpoint: () => void;
  #bytes = 0;
  #count = 0;

  constructor(
    tree: TreeArgs,
    {
      records,
      files,
      original,
      checkpoint,
    }: {
      readonly records: Records;
      readonly files: FileSender;
      readonly original: OriginalKeeper | undefined;
      readonly checkpoint: () => void;
    },
  ) {
    const attributes = new AttributeWriter(tree.form, tree.directory);
    const top = describe('', tree.own, tree.below ?? -1);
    const open = new OpenDirectories(top, directory => records.directory(directory));
    const made = new Made(readNames(tree.own).length === 0);
    const directories = new Directories(tree.form, attributes, open, made);
    const removal = new Removal(
      open,
      records,
      () => files.settle(),
      (...doomed) => original?.removing(...doomed, made),
    );
    const entries = new EntryMaker({ directories, attributes, removal, records, files });
    this.#links = new LinkMaker({ directories, open, attributes, entries, records, made, files, checkpoint });
    this.#whiteouts = new Whiteouts({ directories, made, removal, records, checkpoint });
    this.#open = open;
    this.#directories = directories;
    this.#removal = removal;
    this.#records = records;
    this.#files = files;
    this.#made = made;
    this.#entries = entries;
    this.#original = original;
    this.#checkpoint = checkpoint;
  }

  run(reader: TarReader): Omit<Unpacked, 'size'> {
    try {
      this.#unpack(reader);
      this.#files.settle();
      // A digest covers what comes after the end of the archive as well.
      reader.drain();
      this.#removal.finish(this.#checkpoint);
      this.#open.closeAll();
      this.#records.finishLinks(this.#directories);
      this.#open.closeAll();
      if (this.#open.top.changed) this.#open.settle(this.#open.top);
      return { bytes: this.#bytes, entries: this.#count };
    } finally {
      this.#removal.close();
      this.#open.abandon();
    }
  }

  #unpack(reader: TarReader): void {
    for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
      this.#checkpoint();
      this.#count += 1;
      const path = cleanPath(entry.path);
      const meaning = meaningOf(path);
      if (meaning.type === 'whiteout') this.#whiteouts.hide(parentOf(path), meaning.name);
      else if (meaning.type === 'opaque') this.#whiteouts.hideAll(parentOf(path));
      else if (meaning.type === 'entry') {
        this.#made.add(this.#make(path, entry, reader));
        this.#bytes += entry.size;
      }
    }
  }

  /** @returns where it really is, without links */
  #make(path: string, entry: TarEntry, reader: TarReader): string {
    if (entry.type === 'hardlink') return this.#links.make(path, entry);
    const content = reader.content();
    if (entry.type !== 'file' || this.#original === undefined)
      return this.#entries.make(path, entry, content);
    return this.#original.file(content, noted => this.#entries.make(path, entry, noted));
  }
}
