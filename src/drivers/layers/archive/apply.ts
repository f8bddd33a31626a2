/**
 * Unpacks an archive into a layer: OCI image spec, layer.md, "Applying Changesets". The tree then looks as if the
 * archive had been unpacked over what the layer shows, whichever form it has on the disk.
 *
 * Memory: 1 MiB of the archive, 4 MiB for the digest, at most 64 open directories, what is remembered of at most
 * 65 536 files and as many links (about 200 bytes each, with their paths); and for a layer that held something
 * before, one text for each path of the archive.
 */
import { readNames } from '../../../host/linux/file-calls.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
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
import { type Ring, RingWriter } from './digest-ring.ts';
import { DigestWriter } from './digests.ts';

export interface ApplyArgs {
  readonly tree: TreeArgs;
  /** The uncompressed archive: a file, or the reading end of a pipe. It stays open. */
  readonly archive: { readonly fd: number; readonly isFile: boolean };
  readonly ring: Ring;
}

export interface Unpacked {
  readonly bytes: number;
  readonly entries: number;
}

/** Runs in a worker; its progress is the number of bytes read. @throws as {@link LayerStore.apply} */
export async function applyTask({ tree, archive, ring }: ApplyArgs, context: TaskContext): Promise<Unpacked> {
  const digest = new RingWriter(ring, context);
  const digests = new DigestWriter(tree.directory);
  try {
    const source = new ArchiveSource(archive.fd, archive.isFile, digest, context);
    const unpacked = await new Unpacker(tree, digests, () => context.throwIfAborted()).run(
      new TarReader(source),
    );
    digests.finish();
    return unpacked;
  } catch (error) {
    digests.discard();
    throw error;
  } finally {
    digest.end();
  }
}

class Unpacker {
  readonly #open: OpenDirectories;
  readonly #directories: Directories;
  readonly #removal: Removal;
  readonly #records: Records;
  readonly #made: Made;
  readonly #entries: EntryMaker;
  readonly #links: LinkMaker;
  readonly #whiteouts: Whiteouts;
  readonly #checkpoint: () => void;
  #bytes = 0;
  #count = 0;

  constructor(tree: TreeArgs, digests: DigestWriter, checkpoint: () => void) {
    const records = new Records(digests);
    const attributes = new AttributeWriter(tree.form, tree.directory);
    const top = describe('', tree.own, tree.below ?? -1);
    const open = new OpenDirectories(top, directory => records.directory(directory));
    const made = new Made(readNames(tree.own).length === 0);
    const directories = new Directories(tree.form, attributes, open, made);
    const removal = new Removal(open, records);
    const entries = new EntryMaker({ directories, attributes, removal, records });
    this.#links = new LinkMaker({ directories, open, attributes, entries, records, made, checkpoint });
    this.#whiteouts = new Whiteouts({ directories, made, removal, records, checkpoint });
    this.#open = open;
    this.#directories = directories;
    this.#removal = removal;
    this.#records = records;
    this.#made = made;
    this.#entries = entries;
    this.#checkpoint = checkpoint;
  }

  async run(reader: TarReader): Promise<Unpacked> {
    try {
      this.#unpack(reader);
      // A digest covers what comes after the end of the archive as well.
      reader.drain();
      await this.#removal.finish();
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
        const isLink = entry.type === 'hardlink';
        const real = isLink
          ? this.#links.make(path, entry)
          : this.#entries.make(path, entry, reader.content());
        this.#made.add(real);
        this.#bytes += entry.size;
      }
    }
  }
}
