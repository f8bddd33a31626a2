import { deepStrictEqual } from 'node:assert/strict';
import fc from 'fast-check';
import type { TarEntry, TarType } from '../../../src/tar/entry.ts';
import { entryOf, type Member, readAll, sourceOf, writeAll } from './archive.ts';

/** Objects like those of the reader. */
const plain = { noNullPrototype: true } as const;
const name = fc.oneof(
  { weight: 3, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 40 }) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 90, maxLength: 255 }) },
);
/** Any bytes but NUL; a slash is what `name` has for one. */
const text = fc.array(name, { minLength: 1, maxLength: 8 }).map(names => {
  const parts = names.map(bytes =>
    Buffer.from(bytes.map(value => (value === 0 || value === 0x2f ? 0x61 : value))),
  );
  return Buffer.from(parts.map(part => part.toString('latin1')).join('/'), 'latin1');
});
const xattr = fc.tuple(
  fc
    .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 60 })
    .map(bytes => Buffer.from(bytes).toString('latin1')),
  fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
);
const id = fc.oneof(
  fc.constantFrom(0, 0o7777777, 0o10000000, 2 ** 32 - 2),
  fc.integer({ min: 0, max: 2 ** 32 - 2 }),
);
const mtime = fc.record(
  {
    seconds: fc.oneof(
      fc.constantFrom(0, -1, 8 ** 11 - 1, 8 ** 11),
      fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
    ),
    nanoseconds: fc.oneof(fc.constantFrom(0, 1, 999_999_999), fc.integer({ min: 0, max: 999_999_999 })),
  },
  plain,
);
const types: readonly TarType[] = ['file', 'hardlink', 'symlink', 'character', 'block', 'directory', 'fifo'];

const member: fc.Arbitrary<Member> = fc
  .record({
    type: fc.constantFrom(...types),
    path: text,
    linkPath: text,
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: id,
    gid: id,
    mtime,
    device: fc.record(
      {
        major: fc.integer({ min: 0, max: 4095 }),
        minor: fc.integer({ min: 0, max: 2 ** 20 - 1 }),
      },
      plain,
    ),
    xattrs: fc.array(xattr, { maxLength: 4 }).map(pairs => new Map(pairs)),
    data: fc.uint8Array({ maxLength: 2000 }).map(bytes => Buffer.from(bytes)),
  })
  .map(({ data, linkPath, device, ...common }) => {
    const { type } = common;
    const entry: TarEntry = entryOf('', {
      ...common,
      ...(type === 'file' ? { size: data.length } : {}),
      ...(type.endsWith('link') ? { linkPath } : {}),
      ...(type === 'character' || type === 'block' ? { device } : {}),
    });
    return { entry, data: type === 'file' ? data : Buffer.alloc(0) };
  });

describe('what was written', () => {
  it('is read, every field and byte, in pieces of any size', () => {
    const members = fc.array(member, { maxLength: 6 });
    fc.assert(
      fc.property(members, fc.integer({ min: 1, max: 3000 }), (entries, piece) => {
        deepStrictEqual(readAll(sourceOf(writeAll(entries, piece), piece)), entries);
      }),
      { numRuns: 200 },
    );
  });
});
