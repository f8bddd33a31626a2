import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { workerScript } from '../../../scripts/lib/paths.ts';
import type { Comparison, OpenTree, TreeForm } from '../../../src/drivers/layers/archive/archiver.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { messageOf } from '../../../src/errors/errors.ts';
import { openOverlayView } from '../../../src/host/linux/overlay.ts';
import { TarReader } from '../../../src/tar/reader.ts';
import { times } from '../../support/long.ts';
import { directory, type Entry, file, hardlink, stream, symlink, tarOf } from './apply-world.ts';
import { describeTree } from './reading.ts';

const delta = { type: 'delta', prefix: 'trusted.overlay.' } as const satisfies TreeForm;
const whole = { type: 'whole' } as const satisfies TreeForm;

/** One layer after the other, each made of archives that are applied to it in turn. */
type Layers = readonly (readonly (readonly Entry[])[])[];

/** Mostly one, so that paths meet. */
const name = fc.constantFrom('a', 'a', 'a', 'b', 'b', 'c');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map(names => names.join('/'));
const target = fc.constantFrom(
  'a',
  'b',
  '../a',
  '/a',
  '/b/c',
  '..',
  '.',
  '/',
  'a/b',
  '../c/b',
  'none',
  '../../../a',
);
const xattrs = fc.option(
  fc.record({
    name: fc.constantFrom(
      ...['user.x', 'trusted.overlay.opaque', 'trusted.overlay.redirect', 'trusted.overlay.overlay.opaque'],
      ...['trusted.overlay.whiteout', 'user.overlay.opaque'],
    ),
    value: fc.constantFrom('x', 'y'),
  }),
  { freq: 6, nil: undefined },
);
const attributes = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4755, 0o1777),
  uid: fc.nat(2),
  mtime: fc.integer({ min: 1000, max: 2000 }).map(seconds => ({ seconds, nanoseconds: 0 })),
});
const withXattrs = fc
  .tuple(attributes, xattrs)
  .map(([more, xattr]) => ({ ...more, xattrs: xattr === undefined ? {} : { [xattr.name]: xattr.value } }));
const fileEntry = fc
  .tuple(path, fc.constantFrom('', 'x', 'yy'), withXattrs)
  .map(([at, content, more]) => file(at, content, more));
const directoryEntry = fc.tuple(path, withXattrs).map(([at, more]) => directory(at, more));
const symlinkEntry = fc.tuple(path, target, attributes).map(([at, to, more]) => symlink(at, to, more));
const hardlinkEntry = fc.tuple(path, path).map(([at, to]) => hardlink(at, to));
const fifoEntry = fc
  .tuple(path, attributes)
  .map(([at, more]): Entry => ({ ...more, path: at, type: 'fifo' }));
const whiteout = path.map(at => file(at.replace(/[^/]*$/, '.wh.$&')));
const opaque = fc
  .oneof({ weight: 3, arbitrary: path.map(at => `${at}/`) }, fc.constant(''))
  .map(at => file(`${at}.wh..wh..opq`));
/** In the first layer mostly what a later one can hide, and no hard link to nothing, which ends all. */
const first = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: directoryEntry },
    { weight: 4, arbitrary: fileEntry },
    { weight: 1, arbitrary: symlinkEntry },
    { weight: 1, arbitrary: fifoEntry },
  ),
  { minLength: 2, maxLength: 10 },
);
const later = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fileEntry },
    { weight: 2, arbitrary: directoryEntry },
    { weight: 1, arbitrary: symlinkEntry },
    { weight: 1, arbitrary: hardlinkEntry },
    { weight: 1, arbitrary: fifoEntry },
    { weight: 5, arbitrary: whiteout },
    { weight: 3, arbitrary: opaque },
  ),
  { minLength: 1, maxLength: 7 },
);
const layers: fc.Arbitrary<Layers> = fc
  .tuple(first, fc.array(fc.array(later, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 2 }))
  .map(([base, above]) => [[base], ...above]);

/** The same layers in both forms: as deltas, and each as a whole tree. */
class TwoForms {
  readonly #archiver: WorkerArchiver;
  readonly #root = mkdtempSync(join(tmpdir(), 'varve-forms-'));
  readonly #fds: number[] = [];
  /** Layers, the uppermost first. */
  readonly #deltas: string[] = [];
  readonly #wholes: string[] = [];
  #count = 0;

  constructor(archiver: WorkerArchiver) {
    this.#archiver = archiver;
  }

  /** A new layer over those that there are. */
  async addLayer(): Promise<void> {
    const [upper, copied] = [await this.#draft(), await this.#draftOfWhole()];
    this.#deltas.unshift(upper);
    this.#wholes.unshift(copied);
  }

  /** @returns the words of both failures, when there are any */
  async apply(entries: readonly Entry[]): Promise<readonly (string | undefined)[]> {
    const [upper = '', ...lower] = this.#deltas;
    const [copied = ''] = this.#wholes;
    const tar = tarOf(entries);
    return [
      await this.#apply(tar, await this.#tree(upper, delta, lower)),
      await this.#apply(tar, await this.#tree(copied, whole, [])),
    ];
  }

  /** What is seen of the deltas, and what the whole tree holds. */
  async seen(): Promise<readonly (readonly string[])[]> {
    return [await this.#seen(this.#deltas), await this.#seenWhole(this.#wholes[0] ?? '')];
  }

  /** The uppermost layer as an archive, by its delta and by the two trees. */
  async archives(): Promise<readonly Buffer[]> {
    const [upper = '', ...lower] = this.#deltas;
    const [after = '', before] = this.#wholes;
    const view = (at: string) => this.#tree(at, whole, []);
    return [
      await this.#collect({ type: 'delta', tree: await this.#tree(upper, delta, lower) }),
      await this.#collect({
        type: 'trees',
        before: before === undefined ? null : await view(before),
        after: await view(after),
      }),
    ];
  }

  /** What an archive makes in place of the uppermost layer, in both forms. */
  async again(tar: Buffer): Promise<readonly (readonly string[])[]> {
    const lower = this.#deltas.slice(1);
    const [upper, copied] = [await this.#draft(lower), await this.#draftOfWhole(this.#wholes[1] ?? null)];
    const failures = [
      await this.#apply(tar, await this.#tree(upper, delta, lower)),
      await this.#apply(tar, await this.#tree(copied, whole, [])),
    ];
    expect(failures).to.deep.equal([undefined, undefined]);
    return [await this.#seen([upper, ...lower]), await this.#seenWhole(copied)];
  }

  close(): void {
    this.closeFiles();
    rmSync(this.#root, { recursive: true });
  }

  closeFiles(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }

  /** A layer without content, whose top looks as that of the layer beneath. */
  async #draft(lower: readonly string[] = this.#deltas): Promise<string> {
    const at = this.#place();
    mkdirSync(join(at, 'fs'), { mode: 0o755 });
    if (lower[0] === undefined) return at;
    const { uid, gid, mode } = statSync(join(lower[0], 'fs'));
    chownSync(join(at, 'fs'), uid, gid);
    chmodSync(join(at, 'fs'), mode & 0o7777);
    return at;
  }

  async #draftOfWhole(below: string | null = this.#wholes[0] ?? null): Promise<string> {
    const at = this.#place();
    mkdirSync(join(at, 'fs'), { mode: 0o755 });
    if (below !== null)
      await this.#archiver.copy(await this.#tree(below, whole, []), await this.#tree(at, whole, []), {});
    return at;
  }

  #place(): string {
    this.#count += 1;
    const at = join(this.#root, String(this.#count));
    mkdirSync(at);
    return at;
  }

  async #tree(at: string, form: TreeForm, lower: readonly string[]): Promise<OpenTree> {
    const fd = this.#keep(openSync(join(at, 'fs'), 'r'));
    const below = lower.length === 0 ? null : { fd: await this.#view(lower), close: async () => undefined };
    return { fd, form, directory: at, below, close: async () => undefined };
  }

  /** What a container sees of deltas. */
  async #view(stack: readonly string[]): Promise<number> {
    mkdirSync(join(this.#root, 'empty'), { recursive: true });
    const lower = [...stack.map(at => join(at, 'fs')), join(this.#root, 'empty')].join(':');
    const options = ['index=off', 'metacopy=off', 'redirect_dir=nofollow', `lowerdir=${lower}`];
    return this.#keep(await openOverlayView(options, this.#root));
  }

  #keep(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  async #apply(tar: Buffer, tree: OpenTree): Promise<string | undefined> {
    return await this.#archiver.apply(tree, stream(tar), {}).then(() => undefined, messageOf);
  }

  async #collect(comparison: Comparison): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.#archiver.diff(comparison, {}).bytes) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async #seen(stack: readonly string[]): Promise<readonly string[]> {
    return linesOf(await this.#view(stack));
  }

  async #seenWhole(at: string): Promise<readonly string[]> {
    return linesOf((await this.#tree(at, whole, [])).fd);
  }
}

/** Links lead from one layer to another only in whole trees; a time after 1970 is that of the test. */
function linesOf(fd: number): readonly string[] {
  expect(readdirSync(`/proc/self/fd/${fd}`).filter(one => one.startsWith('.varve-'))).to.deep.equal([]);
  return describeTree(`/proc/self/fd/${fd}/.`, '\0').map(line =>
    line.replace(/ first .*/, '').replace(/ \d{19} /, ' now '),
  );
}

function entriesOf(tar: Buffer): readonly string[] {
  let at = 0;
  const read = (into: Buffer) => {
    const length = tar.copy(into, 0, at, at + into.length);
    at += length;
    return length;
  };
  const reader = new TarReader({ read });
  const lines: string[] = [];
  for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
    const { path: at, linkPath, mtime, mode, uid, gid, size, type, xattrs: some } = entry;
    const time = mtime.seconds > 1_000_000 ? 'now' : mtime.seconds;
    lines.push(`${type} ${at} ${linkPath} ${mode} ${uid}:${gid} ${size} ${time} ${[...some].join()}`);
  }
  return lines;
}

describe('the two forms of a layer', () => {
  let archiver: WorkerArchiver;

  before(() => {
    archiver = new WorkerArchiver(workerScript);
  });

  after(() => archiver.close());

  const agree = async (all: Layers) => {
    const forms = new TwoForms(archiver);
    try {
      for (const archives of all) {
        await forms.addLayer();
        for (const entries of archives) {
          const [asDelta, asWhole] = await forms.apply(entries);
          expect(asDelta).to.equal(asWhole);
          if (asWhole !== undefined) return;
          const [seen, held] = await forms.seen();
          expect(seen).to.deep.equal(held);
          forms.closeFiles();
        }
        const [seen = []] = await forms.seen();
        const archives2 = await forms.archives();
        expect(entriesOf(archives2[0] ?? Buffer.alloc(0))).to.deep.equal(
          entriesOf(archives2[1] ?? Buffer.alloc(0)),
        );
        for (const tar of archives2) expect(await forms.again(tar)).to.deep.equal([seen, seen]);
        forms.closeFiles();
      }
    } finally {
      forms.close();
    }
  };

  const examples: readonly (readonly [title: string, Layers])[] = [
    [
      'a whiteout hides a directory that was only copied up for an opaque one below it',
      [[[directory('a/a/a')]], [[file('a/a/.wh..wh..opq'), file('.wh.a')]]],
    ],
    [
      'the top made opaque hides it as well',
      [[[directory('b/a/a')]], [[file('b/a/.wh..wh..opq'), file('.wh..wh..opq')]]],
    ],
    ['so it is after a whiteout in it', [[[file('a/x'), file('a/y')]], [[file('a/.wh.x'), file('.wh.a')]]]],
    [
      'so it is after a hard link to what is in it',
      [[[file('a/f', 'x')]], [[hardlink('l', 'a/f'), file('.wh.a')]]],
    ],
    [
      'what an archive put into such a directory stays',
      [[[file('a/x'), file('a/y')]], [[file('a/.wh.x'), file('a/z'), file('.wh.a')]]],
    ],
    [
      'a file takes the place of a directory that was only looked into',
      [[[directory('b')]], [[file('b/b/.wh.a'), file('b'), file('b/c')]]],
    ],
    [
      'what was below such a directory is not seen again',
      [[[directory('c/c', { mode: 0o1777 })]], [[file('c/c/b/.wh..wh..opq'), file('.wh.c'), file('c/c/c')]]],
    ],
    [
      'a whiteout takes the place of a directory that was only looked into',
      [[[directory('c')]], [[file('c/c/.wh..wh..opq'), file('.wh.c'), file('c/c/c')]]],
    ],
  ];

  for (const [title, all] of examples) {
    it(`agree: ${title}`, () => agree(all));
  }

  it('agree on what is seen, on their archives, and on what those make, whatever is applied', async function () {
    this.timeout(240_000);
    await fc.assert(fc.asyncProperty(layers, agree), {
      numRuns: times(25, 250),
      endOnFailure: true,
    });
  });
});
