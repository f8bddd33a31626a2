import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { mkdir, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import type { OverlayUse } from '../../../src/core/layers/overlay-mounts.ts';
import { directoryFlags, openat, readNames } from '../../../src/host/linux/file-calls.ts';
import { lstatat } from '../../../src/host/linux/file-status.ts';
import { getXattr, listXattrs } from '../../../src/host/linux/xattr-calls.ts';
import { must } from '../../support/host-scratch.ts';
import { times } from '../../support/long.ts';
import { OverlayLayers } from '../../support/overlay-layers.ts';
import { stack } from '../../support/whole-layers.ts';

interface Operation {
  readonly act: 'write' | 'mkdir' | 'remove' | 'rename' | 'link' | 'symlink' | 'chmod';
  readonly path: string;
  readonly other: string;
  readonly value: number;
}

const path = fc
  .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 })
  .map(names => names.join('/'));
const operation: fc.Arbitrary<Operation> = fc.record({
  act: fc.constantFrom('write', 'mkdir', 'mkdir', 'remove', 'rename', 'rename', 'link', 'symlink', 'chmod'),
  path,
  other: path,
  value: fc.integer({ min: 0, max: 0o777 }),
});
const changes = fc.array(operation, { maxLength: 12 });

/** What the lowest layer holds, so that most of what follows finds something. */
const ground: readonly Operation[] = [
  { act: 'write', path: 'c', other: '', value: 1 },
  { act: 'mkdir', path: 'a/b', other: '', value: 0 },
  { act: 'mkdir', path: 'b/c', other: '', value: 0 },
  { act: 'write', path: 'a/b/c', other: '', value: 2 },
  { act: 'link', path: 'c', other: 'b/c/a', value: 0 },
];

/** What cannot be done, for whatever reason, is left out. */
function perform(root: string, { act, path: name, other, value }: Operation): void {
  const [at, to] = [join(root, name), join(root, other)];
  const acts = {
    write: () => appendFileSync(at, `${value} `),
    mkdir: () => mkdirSync(at, { recursive: true }),
    remove: () => rmSync(at, { recursive: true }),
    rename: () => renameSync(at, to),
    link: () => linkSync(at, to),
    symlink: () => symlinkSync(other, at),
    chmod: () => chmodSync(at, value),
  };
  try {
    acts[act]();
  } catch {}
}

/** Everything that can be seen of a tree; names of one file share what the first is called. */
function snapshot(root: number): readonly string[] {
  const [lines, files] = [[] as string[], new Map<bigint, string>()];
  const look = (directory: number, above: string) => {
    for (const name of readNames(directory).sort(Buffer.compare)) {
      const status = lstatat(directory, name);
      if (typeof status === 'number') throw new Error(`${above}${name}: errno ${-status}`);
      const { type, mode, uid, gid, size, mtimeNs, ino } = status;
      const shown = `${above}${name}`;
      const file = type === 'directory' ? shown : (files.get(ino) ?? shown);
      files.set(ino, file);
      const length = type === 'directory' ? 0 : size;
      lines.push([shown, file, type, mode.toString(8), uid, gid, length, mtimeNs].join(' '));
      if (type !== 'directory') continue;
      const fd = openat(directory, name, directoryFlags);
      look(fd, `${shown}/`);
      closeSync(fd);
    }
  };
  look(root, '');
  return lines;
}

/** Whiteouts, and attributes of the union that say what is beneath. */
function marks(directory: number): readonly string[] {
  return readNames(directory).flatMap(name => {
    const status = lstatat(directory, name);
    if (typeof status === 'number') throw new Error(`errno ${-status}`);
    if (status.type === 'character') return [`whiteout ${name}`];
    if (status.type !== 'directory') return [];
    const fd = openat(directory, name, directoryFlags);
    try {
      const attributes = listXattrs(fd);
      const found = typeof attributes === 'number' ? [] : attributes;
      const own = found.filter(attribute => /^trusted\.overlay\.(opaque|redirect)$/.test(attribute));
      return [...own.map(attribute => `${attribute} ${name}`), ...marks(fd)];
    } finally {
      closeSync(fd);
    }
  });
}

describe('merging overlay layers', () => {
  let layers: OverlayLayers;

  afterEach(() => layers.close());

  async function seen(number: number, ...below: readonly number[]): Promise<readonly string[]> {
    const view = await layers.driver.view(stack(number, ...below));
    try {
      return snapshot(view.fd);
    } finally {
      await view.close();
    }
  }

  async function merge(
    next: number,
    ...[upper, lower, ...below]: [number, number, ...number[]]
  ): Promise<void> {
    await layers.root.draft(next, draft => layers.driver.merge(stack(upper, lower, ...below), draft));
    await layers.driver.placed(stack(next, ...below), 'committed');
    for (const number of [upper, lower]) await layers.root.remove(layers.driver, number);
  }

  for (const fileSystem of ['ext4', 'xfs', 'btrfs'] as const) {
    for (const use of ['images', 'volumes'] as const satisfies OverlayUse[]) {
      it(`shows the same afterwards, whatever was done: ${use} on ${fileSystem}`, async () => {
        layers = await OverlayLayers.make(fileSystem, use);
        const property = fc.asyncProperty(fc.array(changes, { minLength: 4, maxLength: 4 }), async each => {
          for (const [index, operations] of each.entries()) {
            const below = Array.from({ length: index }, (_, at) => index - at);
            await layers.layer(index + 1, below, async root => {
              const first = index === 0 ? ground : [];
              for (const one of [...first, ...operations]) perform(root, one);
            });
          }
          const before = await seen(4, 3, 2, 1);
          await merge(5, 3, 2, 1);
          expect(await seen(4, 5, 1)).to.deep.equal(before);
          await merge(6, 4, 5, 1);
          expect(await seen(6, 1)).to.deep.equal(before);
          await merge(7, 6, 1);
          expect(await seen(7)).to.deep.equal(before);
          const bottom = await layers.driver.view(stack(7));
          expect(marks(bottom.fd)).to.deep.equal([]);
          await bottom.close();
          await layers.root.remove(layers.driver, 7);
        });
        await fc.assert(property, {
          numRuns: times(fileSystem === 'ext4' ? 15 : 10, 100),
          // What a failed run left is in the way of the next.
          endOnFailure: true,
        });
      });
    }
  }

  it('gives files further names, and copies none', async () => {
    layers = await OverlayLayers.make('ext4');
    await layers.layer(1, [], root => writeFile(join(root, 'a'), Buffer.alloc(8 * 1024 * 1024, 1)));
    await layers.layer(2, [1], root => writeFile(join(root, 'b'), Buffer.alloc(8 * 1024 * 1024, 2)));
    const before = await must('stat', '--format', '%i', layers.root.tree(1, 'a'), layers.root.tree(2, 'b'));
    await merge(3, 2, 1);
    const after = await must('stat', '--format', '%i', layers.root.tree(3, 'a'), layers.root.tree(3, 'b'));
    expect(after).to.equal(before);
  });

  it('keeps a whiteout and an opaque directory as long as something is beneath', async () => {
    layers = await OverlayLayers.make('ext4');
    await layers.layer(1, [], async root => {
      await writeFile(join(root, 'hidden'), 'x');
      await mkdir(join(root, 'directory'));
      await writeFile(join(root, 'directory/hidden'), 'x');
    });
    await layers.layer(2, [1], async root => {
      await writeFile(join(root, 'passing'), 'x');
      await rm(join(root, 'directory'), { recursive: true });
    });
    await layers.layer(3, [2, 1], async root => {
      for (const name of ['hidden', 'passing']) await unlink(join(root, name));
      await mkdir(join(root, 'directory'));
    });
    await merge(4, 3, 2, 1);
    expect(await readdir(layers.root.tree(4))).to.have.members(['hidden', 'directory']);
    const words = ['--absolute-names', '--only-values', '-n', 'trusted.overlay.opaque'];
    expect(await must('getfattr', ...words, layers.root.tree(4, 'directory'))).to.equal('y');
    expect(await layers.show(4, 1)).to.deep.equal({ 'directory/': '' });
    await merge(5, 4, 1);
    expect(await readdir(layers.root.tree(5))).to.deep.equal(['directory']);
  });

  it('merges directories as deep as one can make them', async () => {
    layers = await OverlayLayers.make('ext4');
    const deep = async (root: string, name: string) => {
      const path = join(root, 'd/'.repeat(1000));
      await mkdir(path, { recursive: true });
      await writeFile(join(path, name), 'x');
    };
    await layers.layer(1, [], root => deep(root, 'one'));
    await layers.layer(2, [1], root => deep(root, 'two'));
    await merge(3, 2, 1);
    const found = await must('find', layers.root.tree(3), '-type', 'f', '-printf', '%f %d\\n');
    expect(found.trim().split('\n').sort()).to.deep.equal(['one 1001', 'two 1001']);
  });

  it('keeps attributes of directories, and those that only look like the union’s', async () => {
    layers = await OverlayLayers.make('ext4');
    await layers.layer(1, [], root => mkdir(join(root, 'a')));
    const escaped = 'trusted.overlay.overlay.opaque';
    for (const [name, value] of [
      ['user.color', 'green'],
      [escaped, 'y'],
    ] as const) {
      await must('setfattr', '-n', name, '-v', value, layers.root.tree(1, 'a'));
    }
    await layers.layer(2, [1], root => writeFile(join(root, 'b'), 'x'));
    await merge(3, 2, 1);
    const target = [openDirectory(layers.root.tree(3)), Buffer.from('a')] as const;
    expect(String(getXattr(target, 'user.color'))).to.equal('green');
    expect(String(getXattr(target, escaped))).to.equal('y');
    closeSync(target[0]);
  });

  it('says where a renamed directory is beneath both', async () => {
    layers = await OverlayLayers.make('ext4', 'volumes');
    await layers.layer(1, [], async root => {
      await mkdir(join(root, 'a/b'), { recursive: true });
      await writeFile(join(root, 'a/b/file'), 'x');
    });
    await layers.layer(2, [1], async root => renameSync(join(root, 'a/b'), join(root, 'c')));
    await layers.layer(3, [2, 1], async root => renameSync(join(root, 'c'), join(root, 'a/d')));
    await merge(4, 3, 2, 1);
    const words = ['--absolute-names', '--only-values', '-n', 'trusted.overlay.redirect'];
    expect(await must('getfattr', ...words, layers.root.tree(4, 'a/d'))).to.equal('/a/b');
    expect(await layers.show(4, 1)).to.deep.equal({ 'a/': '', 'a/d/': '', 'a/d/file': 'x' });
  });
});

function openDirectory(at: string): number {
  return openat(-100, Buffer.from(at), directoryFlags);
}
