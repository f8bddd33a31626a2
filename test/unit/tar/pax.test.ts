import { expect } from 'chai';
import { InvalidArgument } from '../../../src/errors/errors.ts';
import { block, end, gnu, member, octal, pax, readAll, readOne } from './archive.ts';

const binary = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

function refused(reason: string, ...parts: readonly Buffer[]): void {
  expect(() => readAll(Buffer.concat([...parts, end]))).to.throw(InvalidArgument, reason);
}

describe('an extended header', () => {
  it('says what the header cannot', () => {
    const { entry } = readOne(
      pax([
        ['path', `${'long/'.repeat(100)}name`],
        ['uid', '4000000000'],
        ['gid', '4294967294'],
        ['mtime', '-1.5'],
      ]),
      block(),
    );
    expect(entry.path.toString()).to.equal(`${'long/'.repeat(100)}name`);
    expect(entry).to.deep.include({
      uid: 4_000_000_000,
      gid: 4_294_967_294,
      mtime: { seconds: -2, nanoseconds: 500_000_000 },
    });
  });

  it('keeps the bytes of paths and link targets', () => {
    const bytes = binary.subarray(1);
    const { entry } = readOne(
      pax([
        ['path', bytes],
        ['linkpath', bytes],
      ]),
      block({ type: '2' }),
    );
    expect([entry.path, entry.linkPath]).to.deep.equal([bytes, bytes]);
  });

  it('says the size, which the header may not be able to', () => {
    const { entry, data } = readOne(
      pax([['size', '5']]),
      block({ size: octal(0) }),
      member({}, 'hello').subarray(512),
    );
    expect([entry.size, data.toString()]).to.deep.equal([5, 'hello']);
  });

  it('is of the next entry only', () => {
    const archive = Buffer.concat([pax([['uid', '5']]), block(), block(), end]);
    expect(readAll(archive).map(({ entry }) => entry.uid)).to.deep.equal([5, 0]);
  });

  it('may hold keywords that nobody knows, and empty ones', () => {
    const { entry } = readOne(
      pax([
        ['VENDOR.secret', '1'],
        ['atime', 'nonsense'],
        ['', ''],
        ['constructor', 'x'],
        ['comment', '='],
        ['hdrcharset', 'BINARY'],
      ]),
      block(),
    );
    expect(entry.path.toString()).to.equal('name');
  });

  it('leaves to the header what has no value', () => {
    const empty = ['path', 'linkpath', 'size', 'uid', 'gid', 'mtime'].map(key => [key, ''] as const);
    const { entry } = readOne(pax(empty), block({ type: '2', linkName: 'to', uid: '0000007' }));
    expect([entry.path.toString(), entry.linkPath.toString(), entry.uid]).to.deep.equal(['name', 'to', 7]);
  });

  it('may be full to its last byte', () => {
    const empty = '1048576 comment=\n'.length;
    const { entry } = readOne(pax([['comment', 'x'.repeat(2 ** 20 - empty)]]), block());
    expect(entry.path.toString()).to.equal('name');
    refused(
      'an extended header of it has 1048577 bytes',
      pax([['comment', 'x'.repeat(2 ** 20 - empty + 1)]]),
      block(),
    );
  });

  for (const [what, text] of [
    ['a length of nothing', '0 path=a\n'],
    ['no length', ' path=a\n'],
    ['a negative length', '-9 path=a\n'],
    ['a length that is no number', 'x9 path=a\n'],
    ['a length beyond its end', '99 path=a\n'],
    ['a length far beyond its end', '9999999999 path=a\n'],
    ['a length within its keyword', '4 path=a\n'],
    ['a length that ends before its line', '8 path=a\n'],
    ['a length that ends after its line', '11 path=a\n5 a=\n'],
    ['no "="', '9 path a\n'],
    ['no "=" but in the next one', '9 path a\n9 path=a\n'],
    ['no line feed', '9 path=a '],
    ['no space', '9path=a\n'],
    ['a lot of digits', `${'0'.repeat(1000)}9 path=a\n`],
    ['only zeros', '\0'.repeat(10)],
  ] as const) {
    it(`is refused with ${what}`, () => {
      refused('record', member({ type: 'x' }, text), block());
    });
  }

  for (const [keyword, value, reason] of [
    ['path', 'a\0b', 'its path holds a NUL'],
    ['path', 'x'.repeat(4097), 'its path has more than 4096 bytes'],
    ['path', 'x'.repeat(5000), 'it has a path of more than 4096 bytes'],
    ['size', '-1', 'its size is not a number'],
    ['size', '9223372036854775808', 'its size is too large'],
    ['uid', '4294967295', 'its user id 4294967295 is not in'],
    ['uid', '1.0', 'its user id is not a number'],
    ['gid', '-1', 'its group id is not a number'],
    ['mtime', 'yesterday', 'its time is not a number'],
  ] as const) {
    it(`is refused when its ${keyword} is ${value.slice(0, 20)}`, () =>
      refused(reason, pax([[keyword, value]]), block()));
  }

  it('is refused when it is the second one', () => {
    refused('it has two extended headers', pax([['uid', '1']]), pax([['gid', '1']]), block());
  });
});

describe('extended attributes', () => {
  const attributes = (...records: readonly (readonly [string, string | Buffer])[]): unknown =>
    Object.fromEntries(readOne(pax(records), block()).entry.xattrs);

  it('keep their bytes', () => {
    expect(attributes(['SCHILY.xattr.security.capability', binary])).to.deep.equal({
      'security.capability': binary,
    });
  });

  it('may be empty', () => {
    expect(attributes(['SCHILY.xattr.user.empty', ''])).to.deep.equal({ 'user.empty': Buffer.alloc(0) });
  });

  it('may have any name: "=" and "%" are escaped as GNU tar does', () => {
    const name = Buffer.from('SCHILY.xattr.user.a%3Db%25\xff', 'latin1').toString('latin1');
    expect(attributes([name, '1'])).to.deep.equal({ 'user.a=b%\xff': Buffer.from('1') });
    expect(attributes(['SCHILY.xattr.user.%41', '1'])).to.have.all.keys('user.%41');
    expect(attributes(['SCHILY.xattr.__proto__', '1'])).to.not.equal(undefined);
  });

  it('of libarchive are percent-encoded, with a value in base64', () => {
    const value = binary.toString('base64').replace(/=+$/, '');
    expect(attributes(['LIBARCHIVE.xattr.user.%41%ff', value])).to.deep.equal({ 'user.A\xff': binary });
    refused('is not base64', pax([['LIBARCHIVE.xattr.user.a', '!!!!']]), block());
    refused('is not base64', pax([['LIBARCHIVE.xattr.user.a', 'AAAAA']]), block());
  });

  it('are of one entry only', () => {
    const archive = Buffer.concat([pax([['SCHILY.xattr.user.a', '1']]), block(), block(), end]);
    expect(readAll(archive).map(({ entry }) => entry.xattrs.size)).to.deep.equal([1, 0]);
  });

  it('are refused when no file can have them', () => {
    const of = (name: string, value = ''): Buffer => pax([[`SCHILY.xattr.${name}`, value]]);
    refused('which no file can have', of(''), block());
    refused('which no file can have', of('user.a\0b'), block());
    refused('which no file can have', of('x'.repeat(256)), block());
    refused('extended attribute user.a has more than 65536 bytes', of('user.a', 'x'.repeat(65_537)), block());
    const many = Array.from({ length: 7000 }, (_, at) => [`SCHILY.xattr.user.${at}`, ''] as const);
    refused('it has too many extended attributes', pax(many), block());
  });
});

describe('a global header', () => {
  it('is of all entries after it, until another one or their own says otherwise', () => {
    const archive = Buffer.concat([
      block(),
      pax(
        [
          ['uid', '5'],
          ['SCHILY.xattr.user.a', '1'],
        ],
        'g',
      ),
      block(),
      pax([
        ['uid', '6'],
        ['SCHILY.xattr.user.b', '2'],
      ]),
      block(),
      pax([['gid', '7']], 'g'),
      block(),
      pax(
        [
          ['uid', ''],
          ['gid', '8'],
        ],
        'g',
      ),
      block(),
      end,
    ]);
    const members = readAll(archive).map(({ entry: { uid, gid, xattrs } }) => [
      uid,
      gid,
      [...xattrs.keys()].join(),
    ]);
    expect(members).to.deep.equal([
      [0, 0, ''],
      [5, 0, 'user.a'],
      [6, 0, 'user.a,user.b'],
      [5, 7, 'user.a'],
      [0, 8, 'user.a'],
    ]);
  });

  it('may stand between an entry and its own header, and at the end', () => {
    const archive = Buffer.concat([
      pax([['uid', '5']]),
      pax(
        [
          ['uid', '6'],
          ['comment', 'x'],
        ],
        'g',
      ),
      block(),
      pax([['comment', 'x']], 'g'),
      end,
    ]);
    expect(readAll(archive).map(({ entry }) => entry.uid)).to.deep.equal([5]);
  });

  it('cannot make all files sparse, or collect attributes without end', () => {
    refused('a global header says that all files are sparse', pax([['GNU.sparse.size', '1']], 'g'), block());
    const more = (round: number): Buffer =>
      pax(
        Array.from(
          { length: 10 },
          (_, at) => [`SCHILY.xattr.user.${round}.${at}`, 'x'.repeat(60_000)] as const,
        ),
        'g',
      );
    refused('it has too many extended attributes', more(0), block(), more(1), block());
  });
});

it('an old GNU archive has no use for PAX, but may hold it', () => {
  expect(readOne(pax([['uid', '9']]), block({ magic: gnu })).entry.uid).to.equal(9);
});
