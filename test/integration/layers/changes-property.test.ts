import {
  chmodSync,
  closeSync,
  constants,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { mknodat } from '../../../src/host/linux/file-calls.ts';
import { setXattr } from '../../../src/host/linux/xattr-calls.ts';
import { times } from '../../support/long.ts';
import { applyWithTar, changesOf, cp, describeTree, diffOf, Workbench } from './reading.ts';

/** One thing that a container may do to its files; what is impossible at the moment does nothing. */
type Act = readonly [kind: (typeof kinds)[number], path: string, other: string, number: number];

const kinds = [
  'write',
  'directory',
  'remove',
  'symlink',
  'link',
  'rename',
  'chmod',
  'chown',
  'xattr',
  'device',
] as const;

const name = fc.constantFrom('a', 'a-', 'b', 'ü', 'c d');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map(names => names.join('/'));
const act: fc.Arbitrary<Act> = fc.tuple(fc.constantFrom(...kinds), path, path, fc.nat(3));

function perform(top: string, [kind, relative, other, number]: Act): void {
  const [at, otherAt] = [join(top, relative), join(top, other)];
  const acts: Record<Act[0], () => void> = {
    write: () => writeFileSync(at, `${relative}`.repeat(number)),
    directory: () => mkdirSync(at),
    remove: () => rmSync(at, { recursive: true }),
    symlink: () => symlinkSync(`target-${number}`, at),
    link: () => linkSync(otherAt, at),
    rename: () => renameSync(otherAt, at),
    chmod: () => chmodSync(at, [0o644, 0o755, 0o1777, 0o4711][number] ?? 0o600),
    chown: () => lchownSync(at, number, number * 1000),
    xattr: () => xattr(at, number),
    device: () => device(at, number),
  };
  try {
    // A fifo would wait for its other end.
    const opens = kind === 'write' || kind === 'xattr';
    if (opens && lstatSync(at, { throwIfNoEntry: false })?.isFIFO()) return;
    acts[kind]();
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
  }
}

function xattr(at: string, number: number): void {
  const fd = openSync(at, 'r');
  setXattr(
    fd,
    ['user.a', 'user.b', 'trusted.c', 'trusted.overlaid'][number] ?? 'user.d',
    Buffer.from([number, 0, 255]),
  );
  closeSync(fd);
}

function device(at: string, number: number): void {
  const directory = openSync(join(at, '..'), constants.O_RDONLY | constants.O_DIRECTORY);
  const name = Buffer.from(at.slice(at.lastIndexOf('/') + 1));
  if (number === 0) mknodat(directory, name, 0o010644, { major: 0, minor: 0 });
  else mknodat(directory, name, 0o020644, { major: 200 + number, minor: 300 });
  closeSync(directory);
}

describe('the changes of a layer', () => {
  it('are the same from its delta and from the two trees, and make one tree of the other', async function () {
    this.timeout(240_000);
    const many = fc.array(act, { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(many, many, async (first, second) => {
        const bench = new Workbench();
        try {
          const [base, upper] = [bench.directory('base'), bench.directory('upper')];
          for (const one of first) perform(base, one);
          const merged = await bench.overlay(base, upper);
          for (const one of second) perform(merged, one);

          const below = bench.open(base);
          const form = { type: 'delta', prefix: 'trusted.overlay.' } as const;
          const delta = {
            type: 'delta',
            tree: { own: bench.open(upper), directory: bench.path, form, below },
          } as const;
          const trees = { type: 'trees', before: below, after: bench.open(merged) } as const;
          expect(changesOf(delta)).to.deep.equal(changesOf(trees));

          const archive = join(bench.path, 'diff.tar');
          const bytes = diffOf(trees, archive);
          expect(diffOf(delta, archive).equals(bytes), 'both archives are equal').to.equal(true);

          await cp(base, join(bench.path, 'copy'));
          await applyWithTar(archive, join(bench.path, 'copy'));
          expect(describeTree(join(bench.path, 'copy'))).to.deep.equal(describeTree(merged));
        } finally {
          await bench.close();
        }
      }),
      { numRuns: times(40, 400), endOnFailure: true },
    );
  });
});
