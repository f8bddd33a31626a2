import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { Aborted, InvalidArgument } from '../../../src/errors/errors.ts';
import type { TarEntry } from '../../../src/tar/entry.ts';
import { TarWriter } from '../../../src/tar/writer.ts';
import { block, end, entryOf, type Member, member, pax, readAll, writeAll } from './archive.ts';

const empty = Buffer.alloc(0);

function written(...entries: readonly TarEntry[]): Buffer {
  return writeAll(entries.map(entry => ({ entry, data: Buffer.alloc(Math.max(0, entry.size), 'x') })));
}

/** The PAX records in front of an entry: keyword and value. */
function recordsOf(entry: TarEntry): readonly string[] {
  const archive = written(entry);
  if (archive.toString('latin1', 156, 157) !== 'x') return [];
  const size = Number.parseInt(archive.toString('latin1', 124, 135), 8);
  const lines = archive
    .toString('latin1', 512, 512 + size)
    .split('\n')
    .slice(0, -1);
  return lines.map(line => line.replace(/^\d+ /, ''));
}

describe('a written archive', () => {
  it('is plain ustar where that says everything', () => {
    const mtime = { seconds: 0o14530345000, nanoseconds: 0 };
    const common = { mode: 0o4755, uid: 1000, gid: 100, mtime };
    const data = Buffer.from('hello');
    const fields = { mode: '0004755', uid: '0001750', gid: '0000144', mtime: '14530345000' };
    const archive = writeAll([
      { entry: entryOf('a/b', { ...common, size: 5 }), data },
      { entry: entryOf('c', { ...common, type: 'symlink', linkPath: Buffer.from('a/b') }), data: empty },
      { entry: entryOf('d', { ...common, type: 'block', device: { major: 8, minor: 1 } }), data: empty },
      { entry: entryOf('e', { ...common, type: 'directory' }), data: empty },
    ]);
    const parts = [
      member({ ...fields, name: 'a/b' }, data),
      block({ ...fields, name: 'c', type: '2', linkName: 'a/b' }),
      block({ ...fields, name: 'd', type: '4', major: '0000010', minor: '0000001' }),
      block({ ...fields, name: 'e/', type: '5' }),
      end,
    ];
    expect(archive.equals(Buffer.concat(parts))).to.equal(true);
  });

  it('is the same however the content is cut, and whatever the order of attributes', () => {
    const data = Buffer.alloc(2_500_000, 'large ');
    const xattrs = [['user.b', Buffer.from('2')] as const, ['user.a', Buffer.from('1')] as const];
    const members = (order: typeof xattrs): readonly Member[] => [
      { entry: entryOf('a', { size: data.length, xattrs: new Map(order) }), data },
      { entry: entryOf('b', { size: 3 }), data: Buffer.from('abc') },
    ];
    const archive = writeAll(members(xattrs));
    for (const cut of [1000, 65_536, 1_048_576, 2_000_000]) {
      expect(writeAll(members(xattrs.toReversed()), cut).equals(archive), String(cut)).to.equal(true);
    }
  });

  it('has a PAX header of exactly these bytes', () => {
    const entry = entryOf('a', {
      ...{ uid: 2 ** 21, mtime: { seconds: -2, nanoseconds: 500_000_000 } },
      xattrs: new Map([['user.x', Buffer.from([0, 10, 255])]]),
    });
    const records = pax([
      ['SCHILY.xattr.user.x', '\0\n\xff'],
      ['mtime', '-1.5'],
      ['uid', '2097152'],
    ]);
    const plain = block({ name: 'a', uid: '7777777' });
    expect(written(entry).equals(Buffer.concat([records, plain, end]))).to.equal(true);
  });
});

describe('PAX records are written for', () => {
  const name = (length: number): string => 'n'.repeat(length);

  it('paths that fit neither the name nor prefix and name', () => {
    for (const path of [name(100), `${name(155)}/${name(100)}`, `${name(1)}/${name(100)}`, 'ä/\xff']) {
      expect(recordsOf(entryOf(path)), path).to.deep.equal([]);
    }
    for (const path of [
      name(101),
      `${name(156)}/${name(100)}`,
      `${name(155)}/${name(101)}`,
      `/${name(100)}`,
    ]) {
      expect(recordsOf(entryOf(path)), path).to.deep.equal([`path=${path}`]);
    }
    expect(recordsOf(entryOf(name(99), { type: 'directory' }))).to.deep.equal([]);
    expect(recordsOf(entryOf(name(100), { type: 'directory' }))).to.deep.equal([`path=${name(100)}/`]);
  });

  it('link targets that do not fit', () => {
    const to = (length: number): TarEntry =>
      entryOf('a', { type: 'symlink', linkPath: Buffer.from(name(length)) });
    expect(recordsOf(to(100))).to.deep.equal([]);
    expect(recordsOf(to(101))).to.deep.equal([`linkpath=${name(101)}`]);
  });

  it('ids that do not fit', () => {
    expect(recordsOf(entryOf('a', { uid: 0o7777777, gid: 0o7777777 }))).to.deep.equal([]);
    const large = { uid: 0o10000000, gid: 4_294_967_294 };
    expect(recordsOf(entryOf('a', large))).to.deep.equal(['gid=4294967294', 'uid=2097152']);
  });

  it('sizes that do not fit', () => {
    let start: Buffer | undefined;
    const writer = new TarWriter({
      write: bytes => {
        start ??= Buffer.from(bytes);
      },
    });
    writer.entry(entryOf('a', { size: 2 ** 33 }));
    const piece = Buffer.allocUnsafe(2 ** 27);
    for (let at = 0; at < 64; at += 1) writer.content(piece);
    writer.finish();
    const expected = [pax([['size', '8589934592']]), block({ name: 'a', size: '77777777777' })];
    expect(start?.equals(Buffer.concat(expected))).to.equal(true);
  });

  it('times that are not whole seconds since 1970', () => {
    const at = (seconds: number, nanoseconds: number): readonly string[] =>
      recordsOf(entryOf('a', { mtime: { seconds, nanoseconds } }));
    expect(at(0o77777777777, 0)).to.deep.equal([]);
    expect(at(0o77777777777 + 1, 0)).to.deep.equal(['mtime=8589934592']);
    expect(at(1, 10)).to.deep.equal(['mtime=1.00000001']);
    expect(at(-1, 0)).to.deep.equal(['mtime=-1']);
  });

  it('extended attributes, their names escaped as GNU tar does', () => {
    const xattrs = new Map([
      ['user.b', empty],
      ['user.a=%', Buffer.from('1')],
    ]);
    expect(recordsOf(entryOf('a', { xattrs }))).to.deep.equal([
      'SCHILY.xattr.user.a%3D%25=1',
      'SCHILY.xattr.user.b=',
    ]);
  });

  it('a length that grows by counting itself', () => {
    for (let length = 80; length < 110; length += 1) {
      const xattrs = new Map([['user.a', Buffer.alloc(length, 'x')]]);
      const [one] = readAll(written(entryOf('a', { xattrs })));
      expect(one?.entry.xattrs).to.deep.equal(xattrs);
    }
  });
});

describe('an entry is refused', () => {
  for (const [what, reason, entry] of [
    ['without a path', 'it has no path', entryOf('')],
    ['with a NUL in its path', 'its path holds a NUL', entryOf('a\0b')],
    ['with a path too long', 'its path has more than 4096 bytes', entryOf('x'.repeat(4097))],
    ['with a slash at the end of its path', 'its path ends with "/"', entryOf('a/', { type: 'directory' })],
    ['that is a file named /', 'its path ends with "/"', entryOf('/')],
    ['that is a link to nothing', 'it has no link target', entryOf('a', { type: 'hardlink' })],
    ['of a negative size', 'its size -1 is not in', entryOf('a', { size: -1 })],
    ['with a user that is none', 'its user id 4294967295 is not in', entryOf('a', { uid: 2 ** 32 - 1 })],
    ['with a type in its mode', 'its mode 33188 is not in', entryOf('a', { mode: 0o100644 })],
    [
      'with an attribute that no file has',
      'which no file can have',
      entryOf('a', { xattrs: new Map([['', empty]]) }),
    ],
    [
      'with more attributes than a header takes',
      'it has too many extended attributes',
      entryOf('a', {
        xattrs: new Map(Array.from({ length: 17 }, (_, at) => [`user.${at}`, Buffer.alloc(61_678)])),
      }),
    ],
  ] as const) {
    it(what, () => {
      expect(() => written(entry))
        .to.throw(InvalidArgument, reason)
        .with.property('message')
        .match(/^an archive/);
    });
  }
});

describe('content', () => {
  const writer = (): TarWriter => new TarWriter({ write: () => {} });
  const message = 'the size of "a" changed while it was read; try again';

  it('that is too short is Aborted', () => {
    for (const act of [(one: TarWriter) => one.finish(), (one: TarWriter) => one.entry(entryOf('b'))]) {
      const one = writer();
      one.entry(entryOf('a', { size: 5 }));
      one.content(Buffer.alloc(4));
      expect(() => act(one)).to.throw(Aborted, message);
    }
  });

  it('that is too long is Aborted', () => {
    const one = writer();
    one.entry(entryOf('a', { size: 5 }));
    expect(() => one.content(Buffer.alloc(6))).to.throw(Aborted, message);
  });
});

describe('what was written once', () => {
  // Docker asks for the layer of a built image again whenever the image is pushed or saved, and compares the digest.
  it('is written so for ever', () => {
    const xattrs = new Map([
      ['user.b', Buffer.from('\xff\0', 'latin1')],
      ['user.a', Buffer.alloc(0)],
    ]);
    const mtime = { seconds: -2, nanoseconds: 500_000_000 };
    const archive = writeAll([
      { entry: entryOf('d', { type: 'directory', mode: 0o1777, xattrs }), data: Buffer.alloc(0) },
      { entry: entryOf('d/file', { size: 5, mtime, uid: 4_000_000_000 }), data: Buffer.from('hello') },
      { entry: entryOf(`d/${'long'.repeat(60)}`, { size: 0 }), data: Buffer.alloc(0) },
      {
        entry: entryOf('l', { type: 'symlink', linkPath: Buffer.from('t'.repeat(120)) }),
        data: Buffer.alloc(0),
      },
      { entry: entryOf('h', { type: 'hardlink', linkPath: Buffer.from('d/file') }), data: Buffer.alloc(0) },
      {
        entry: entryOf('c', { type: 'character', device: { major: 5, minor: 70_000 } }),
        data: Buffer.alloc(0),
      },
    ]);
    expect(createHash('sha256').update(archive).digest('hex')).to.equal(
      '58f5fdb5ffe0acf192ea43c7ceed37b3040cf73b04848a2243b430d58e99eaa6',
    );
  });
});
