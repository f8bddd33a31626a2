import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import type { TarEntry } from '../../../src/tar/entry.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { entryOf, type Member, readAll, writeAll } from '../../unit/tar/archive.ts';
import { scan, type Tree, treeOf } from './tree.ts';

const plain = { noNullPrototype: true } as const;

/** Any bytes that a name may have. */
const name = fc
  .uint8Array({ min: 1, minLength: 1, maxLength: 200 })
  .map(bytes => Buffer.from(bytes.map(byte => (byte === 0x2f ? 0x61 : byte))).toString('latin1'));
/** What ext4 can hold. */
const id = fc.integer({ min: 0, max: 2 ** 32 - 2 });
const mtime = fc.record(
  {
    seconds: fc.integer({ min: -(2 ** 31), max: 2 ** 33 }),
    nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
  },
  plain,
);
const xattr = fc.tuple(
  name.map(text => `user.${text}`),
  fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
);

const member: fc.Arbitrary<Member> = fc
  .record({
    type: fc.constantFrom('file', 'symlink', 'character', 'block', 'directory', 'fifo'),
    path: name,
    target: name,
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: id,
    gid: id,
    mtime,
    device: fc.record(
      { major: fc.integer({ min: 1, max: 4095 }), minor: fc.integer({ min: 0, max: 2 ** 20 - 1 }) },
      plain,
    ),
    xattrs: fc.array(xattr, { maxLength: 2 }).map(pairs => new Map(pairs)),
    data: fc.uint8Array({ maxLength: 2000 }).map(bytes => Buffer.from(bytes)),
  })
  .map(({ path, target, device, xattrs, data, ...common }) => {
    const { type } = common;
    const entry: TarEntry = entryOf(path, {
      ...common,
      // Linux has neither modes of symbolic links nor attributes `user.` of what is no file or directory (xattr(7)).
      ...(type === 'symlink' ? { linkPath: Buffer.from(target, 'latin1'), mode: 0o777 } : {}),
      ...(type === 'character' || type === 'block' ? { device } : {}),
      ...(type === 'file' || type === 'directory' ? { xattrs } : {}),
      ...(type === 'file' ? { size: data.length } : {}),
    });
    return { entry, data: type === 'file' ? data : Buffer.alloc(0) };
  });

/** Below one directory, each with a name of its own. */
function below(members: readonly Member[]): readonly Member[] {
  const top = { entry: entryOf('top', { type: 'directory', mode: 0o755 }), data: Buffer.alloc(0) };
  const rest = members.map(({ entry, data }, at) => {
    const path = Buffer.concat([Buffer.from(`top/${at}`), entry.path]);
    return { entry: { ...entry, path }, data };
  });
  return [top, ...rest];
}

describe('any tree', () => {
  let scratch: Scratch;
  let round = 0;

  before(async () => {
    scratch = await Scratch.make();
  });
  after(() => scratch.remove());

  it('that we write is what GNU tar unpacks, and what GNU tar packs of that is read as the same', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(member, { minLength: 1, maxLength: 12 }), async members => {
        const written = below(members);
        const expected = treeOf(written);
        round += 1;
        const root = await scratch.directory(String(round));
        const file = join(scratch.path, `${round}.tar`);
        writeFileSync(file, writeAll(written));
        const attributes = ['--numeric-owner', '--xattrs', '--xattrs-include=*'];
        await must('tar', '-C', root, '-xpf', file, ...attributes);
        same(await scan(root, ['top']), expected);
        await must('tar', '-C', root, '-cf', file, '--format=pax', ...attributes, 'top');
        same(treeOf(readAll(readFileSync(file))), expected);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  });
});

function same(found: Tree, expected: Tree): void {
  expect([...found.keys()]).to.have.members([...expected.keys()]);
  for (const [path, line] of expected) expect(found.get(path), path).to.equal(line);
}
