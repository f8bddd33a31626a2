import { execFileSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Applied, ApplyWork, Archive } from '../../../src/core/layers/layer-store.ts';
import type { OpenTree, TreeForm } from '../../../src/drivers/layers/archive/archiver.ts';
import type { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { lstatat } from '../../../src/host/linux/file-status.ts';
import { getXattr, listXattrs } from '../../../src/host/linux/xattr-calls.ts';
import { type Entry, tarOf } from '../../support/tar-entries.ts';

export { directory, type Entry, file, hardlink, symlink, tarOf } from '../../support/tar-entries.ts';

export async function* stream(...chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

const forms = {
  whole: { type: 'whole' },
  delta: { type: 'delta', prefix: 'trusted.overlay.' },
} as const satisfies Record<string, TreeForm>;

/** A layer in one of the forms, over another one, and what a container would see of both. */
export class Layer {
  readonly root: string;
  readonly #archiver: WorkerArchiver;
  readonly #form: keyof typeof forms;
  readonly #fds: number[] = [];
  #hasBelow = false;

  constructor(archiver: WorkerArchiver, form: keyof typeof forms) {
    this.#archiver = archiver;
    this.#form = form;
    this.root = mkdtempSync(join(tmpdir(), 'varve-apply-'));
    for (const name of ['fs', 'below', 'below/fs', 'work', 'merged', 'outside'])
      mkdirSync(join(this.root, name));
  }

  path(...names: readonly string[]): string {
    return join(this.root, ...names);
  }

  /** Fills what is beneath: in the form `whole` that is the layer itself, as a copy of its parent. */
  async beneath(...entries: readonly Entry[]): Promise<void> {
    this.#hasBelow = this.#form === 'delta';
    const place = this.#hasBelow ? this.path('below') : this.root;
    await this.#archiver.apply(this.#open(place, forms.whole, null), stream(tarOf(entries)), {});
  }

  async apply(...entries: readonly Entry[]): Promise<Applied> {
    return await this.applyArchive(stream(tarOf(entries)));
  }

  async applyArchive(archive: Archive, work: ApplyWork = {}): Promise<Applied> {
    return await this.#archiver.apply(this.#openTree(), archive, work);
  }

  /** The archive that was applied, as it is given back. @param diffId its digest */
  original(diffId: string): AsyncIterable<Uint8Array> {
    const fd = openSync(this.path('original'), 'r');
    this.#fds.push(fd);
    const original = { fd, close: async () => undefined };
    return this.#archiver.original({ tree: this.#openTree(), original }, diffId, {}).bytes;
  }

  /** A look at it as a container has it, for the time of `look`. */
  seen<T>(look: (root: string) => T): T {
    if (!this.#hasBelow) return look(this.path('fs'));
    const [merged, options] = [
      this.path('merged'),
      `lowerdir=${this.path('below/fs')},upperdir=${this.path('fs')},workdir=${this.path('work')}`,
    ];
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, merged]);
    try {
      return look(merged);
    } finally {
      execFileSync('umount', [merged]);
    }
  }

  /** All paths that a container sees, sorted. */
  names(): readonly string[] {
    return this.seen(namesBelow);
  }

  describe(path: string): Description {
    return this.seen(root => describe(root, path));
  }

  read(path: string): string {
    return this.seen(root => readFileSync(join(root, path), 'latin1'));
  }

  /** What stands in the layer itself, whiteouts and all. */
  own(): readonly string[] {
    return namesBelow(this.path('fs'));
  }

  device(path: string): { readonly major: number; readonly minor: number } | undefined {
    const fd = openSync(this.path('fs'), 'r');
    const status = lstatat(fd, Buffer.from(path));
    closeSync(fd);
    return typeof status === 'number' ? undefined : status.device;
  }

  /** Whatever was opened for it. */
  close(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }

  dispose(): void {
    this.close();
    rmSync(this.root, { recursive: true });
  }

  #openTree(): OpenTree {
    const below = this.#hasBelow ? this.#open(this.path('below'), forms.whole, null) : null;
    return this.#open(this.root, forms[this.#form], below);
  }

  #open(place: string, form: TreeForm, below: OpenTree | null): OpenTree {
    const fd = openSync(join(place, 'fs'), 'r');
    this.#fds.push(fd);
    return { fd, form, directory: place, below, close: async () => undefined };
  }
}

/** All paths in a tree, sorted; links are not followed. */
function namesBelow(root: string, path = ''): readonly string[] {
  const at = Buffer.concat([Buffer.from(root), Buffer.from(path === '' ? '' : `/${path}`, 'latin1')]);
  const found = readdirSync(at, { withFileTypes: true, encoding: 'latin1' }).flatMap(entry => {
    const below = path === '' ? entry.name : `${path}/${entry.name}`;
    return entry.isDirectory() ? [below, ...namesBelow(root, below)] : [below];
  });
  return found.sort();
}

export interface Description {
  readonly mode: string;
  readonly owner: string;
  readonly mtimeNs: bigint;
  readonly ino: bigint;
  readonly rdev: bigint;
  readonly blocks: bigint;
  readonly target: string | undefined;
  readonly xattrs: Readonly<Record<string, string>>;
}

function describe(root: string, path: string): Description {
  const { mode, uid, gid, mtimeNs, ino, rdev, blocks } = lstatSync(join(root, path), { bigint: true });
  const isLink = (mode & 0o170000n) === 0o120000n;
  const fd = openSync(root, 'r');
  try {
    return {
      ...{ mode: mode.toString(8), owner: `${uid}:${gid}`, mtimeNs, ino, rdev, blocks },
      target: isLink ? readlinkSync(join(root, path), 'latin1') : undefined,
      xattrs: xattrsOf([fd, Buffer.from(path)]),
    };
  } finally {
    closeSync(fd);
  }
}

function xattrsOf(target: readonly [number, Buffer]): Readonly<Record<string, string>> {
  const names = listXattrs(target);
  if (typeof names === 'number') throw new Error(`errno ${-names}`);
  return Object.fromEntries(names.map(name => [name, textOf(getXattr(target, name))]));
}

function textOf(value: Buffer | number): string {
  return typeof value === 'number' ? `errno ${-value}` : value.toString('latin1');
}
