import { expect } from 'chai';
import { InvalidArgument } from '../../../src/errors/errors.ts';
import { TarReader } from '../../../src/tar/reader.ts';
import {
  block,
  end,
  gnu,
  member,
  octal,
  padded,
  pax,
  posix,
  readAll,
  readOne,
  sourceOf,
  v7,
} from './archive.ts';

const long = 'd/'.repeat(150);

function refused(reason: string, ...parts: readonly Buffer[]): void {
  expect(() => readAll(Buffer.concat(parts))).to.throw(InvalidArgument, reason);
}

describe('the fields of a header', () => {
  it('are read', () => {
    const { entry, data } = readOne(
      member({ name: 'a/b', mode: '0104755', uid: '0001750', gid: '0000144', mtime: '14530345000' }, 'hello'),
    );
    expect(entry).to.deep.equal({
      ...{ path: Buffer.from('a/b'), type: 'file', size: 5, mode: 0o4755, uid: 1000, gid: 100 },
      mtime: { seconds: 0o14530345000, nanoseconds: 0 },
      ...{ linkPath: Buffer.alloc(0), device: { major: 0, minor: 0 }, xattrs: new Map() },
    });
    expect(data.toString()).to.equal('hello');
  });

  for (const [letter, type] of Object.entries({ 1: 'hardlink', 2: 'symlink', 5: 'directory', 6: 'fifo' })) {
    it(`type ${letter} is a ${type}`, () => {
      const { entry } = readOne(block({ type: letter, linkName: 'to' }));
      expect(entry.type).to.equal(type);
      expect(entry.linkPath.toString()).to.equal(type.endsWith('link') ? 'to' : '');
    });
  }

  for (const [letter, type] of Object.entries({ 3: 'character', 4: 'block' })) {
    it(`type ${letter} is a ${type} device with numbers`, () => {
      const { entry } = readOne(block({ type: letter, major: '0000010', minor: '3777777' }));
      expect([entry.type, entry.device]).to.deep.equal([type, { major: 8, minor: 2 ** 20 - 1 }]);
    });
  }

  it('type 7, a contiguous file, and NUL, one of v7, are files', () => {
    expect(readOne(member({ type: '7' }, 'x')).entry.type).to.equal('file');
    expect(readOne(member({ type: '\0', magic: v7 }, 'x')).entry.type).to.equal('file');
  });

  for (const type of ['A', 'D', 'M', 'N', 'V', 'X', 'Z', '8', '9', 'a', '\x80', ' ']) {
    it(`type ${JSON.stringify(type)} is refused`, () => refused('is not known', block({ type }), end));
  }

  it('a name may fill its field, and all of prefix and name', () => {
    const name = 'n'.repeat(100);
    expect(readOne(block({ name })).entry.path.toString()).to.equal(name);
    const prefix = 'p'.repeat(155);
    expect(readOne(block({ name, prefix })).entry.path.toString()).to.equal(`${prefix}/${name}`);
    expect(readOne(block({ type: '2', linkName: name })).entry.linkPath.toString()).to.equal(name);
  });

  it('what stands in the place of the prefix is none in GNU and v7', () => {
    for (const magic of [gnu, v7]) {
      expect(readOne(block({ magic, prefix: '14530345000' })).entry.path.toString()).to.equal('name');
    }
  });

  it('keep the bytes of a name that is not UTF-8, and end at the first NUL', () => {
    const name = Buffer.from('fe ff c3 28 00 78'.replaceAll(' ', ''), 'hex');
    expect(readOne(block({ name })).entry.path).to.deep.equal(name.subarray(0, 4));
  });

  it('the checksum may be one of signed bytes', () => {
    const { entry } = readOne(block({ name: 'ä', isSigned: true }));
    expect(entry.path.toString('latin1')).to.equal('ä');
  });

  it('a wrong checksum is refused', () => {
    const header = block();
    header[0] = 0x4e;
    refused('its header has a wrong checksum', header, end);
  });

  it('the time may be negative in base-256', () => {
    const mtime = Buffer.alloc(12, 0xff);
    mtime.writeInt32BE(-1_000_000, 8);
    expect(readOne(block({ mtime })).entry.mtime).to.deep.equal({ seconds: -1_000_000, nanoseconds: 0 });
  });

  it('ids beyond 2^21 are base-256', () => {
    const uid = Buffer.from('80000000ee6b2800', 'hex');
    expect(readOne(block({ uid, gid: uid })).entry).to.include({ uid: 4_000_000_000, gid: 4_000_000_000 });
  });

  it('the id that means no change to chown(2) is refused', () => {
    const uid = Buffer.from('80000000ffffffff', 'hex');
    refused('user id 4294967295 is not in 0 to 4294967294', block({ uid }), end);
    refused('group id -1 is not', block({ gid: Buffer.alloc(8, 0xff) }), end);
  });

  it('a negative size is refused, also of a link that may carry content', () => {
    const size = Buffer.alloc(12, 0xff);
    refused('its size is negative', block({ size }), end);
    refused('its size is negative', pax([['uid', '1']]), block({ type: '1', linkName: 'to', size }), end);
  });

  it('device numbers that Linux does not have are refused', () => {
    refused('device number 4096 is not', block({ type: '3', major: '0010000' }), end);
    refused('device number 1048576 is not', block({ type: '4', minor: '4000000' }), end);
  });
});

describe('the path of an entry', () => {
  for (const [name, path] of [
    ['a/', 'a'],
    ['a///', 'a'],
    ['./', '.'],
    ['/', '/'],
    ['//', '/'],
  ] as const) {
    it(`${name} of a directory is ${path}`, () => {
      expect(readOne(block({ type: '5', name })).entry.path.toString()).to.equal(path);
    });
  }

  it('with a slash at its end makes a file a directory, as in v7', () => {
    for (const magic of [v7, gnu, posix]) {
      const { entry } = readOne(block({ type: magic === v7 ? '\0' : '0', name: 'old/', magic }));
      expect([entry.path.toString(), entry.type]).to.deep.equal(['old', 'directory']);
    }
    refused('its path ends with "/", and it has content', member({ name: 'old/' }, 'x'), end);
  });

  it('is not interpreted', () => {
    expect(readOne(block({ name: '/../a//./b' })).entry.path.toString()).to.equal('/../a//./b');
  });

  it('must be there, and that of a link target too', () => {
    refused('it has no path', block({ name: '' }), end);
    refused('it has no link target', block({ type: '1' }), end);
    refused('it has no link target', block({ type: '2' }), end);
  });
});

describe('GNU long names', () => {
  const named = (type: string, text: string): Buffer =>
    member({ type, name: '././@LongLink', magic: gnu }, text);

  it('replace the name and the link target of the next entry, and only of it', () => {
    const archive = [
      named('K', `${long}target\0`),
      named('L', `${long}name\0`),
      block({ type: '2', magic: gnu, linkName: 'cut' }),
      block({ type: '2', magic: gnu, linkName: 'cut' }),
      end,
    ];
    const [first, second] = readAll(Buffer.concat(archive)).map(({ entry }) => entry);
    expect([first?.path.toString(), first?.linkPath.toString()]).to.deep.equal([
      `${long}name`,
      `${long}target`,
    ]);
    expect([second?.path.toString(), second?.linkPath.toString()]).to.deep.equal(['name', 'cut']);
  });

  it('need no NUL, and may be of a directory', () => {
    const { entry } = readOne(named('L', long), block({ type: '5', magic: gnu }));
    expect(entry.path.toString()).to.equal(long.slice(0, -1));
  });

  it('are refused when they hold a NUL, come twice, or contradict PAX', () => {
    refused('its long name holds a NUL', named('L', 'a\0b\0'), block(), end);
    refused('it has two long names', named('L', 'a'), named('L', 'b'), block(), end);
    refused('stands in a GNU and in a PAX header', named('L', 'a'), pax([['path', 'b']]), block(), end);
  });

  it('are refused when they are too long, before they are read', () => {
    refused('has more than 4096 bytes', named('L', 'x'.repeat(5000)), block(), end);
    refused('an extended header of it has 1073741824 bytes', block({ type: 'L', size: octal(2 ** 30) }));
  });
});

describe('the content', () => {
  const large = Buffer.alloc(1_200_000, 'large');
  const contents = [
    Buffer.from('first'),
    large,
    Buffer.alloc(512, 'c'),
    Buffer.alloc(0),
    Buffer.from('last'),
  ];
  const archive = Buffer.concat([
    ...contents.map((data, at) => member({ name: 'abcde'.charAt(at) }, data)),
    end,
  ]);

  for (const piece of [7, 511, 512, 513, 65_536, 1_300_000]) {
    it(`is the same when the source gives ${piece} bytes at a time`, () => {
      const members = readAll(sourceOf(archive, piece));
      expect(members.every(({ data }, at) => contents[at]?.equals(data))).to.equal(true);
      expect(members.map(({ entry }) => entry.path.toString()).join('')).to.equal('abcde');
    });
  }

  it('is skipped where nobody wants it, also from its middle', () => {
    const reader = new TarReader(sourceOf(archive, 10_000));
    const paths: string[] = [];
    for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
      paths.push(entry.path.toString());
      if (entry.path.toString() === 'b') {
        for (const { offset } of reader.content()) if (offset > 100_000) break;
      }
    }
    expect(paths.join('')).to.equal('abcde');
  });

  it('goes on where it was left, and is handed out once', () => {
    const reader = new TarReader(sourceOf(archive, 1024));
    reader.next();
    reader.next();
    const offsets: number[] = [];
    for (let turn = 0; turn < 3; turn += 1) {
      for (const { offset } of reader.content()) {
        offsets.push(offset);
        if (turn === 0) break;
      }
    }
    expect(offsets.slice(0, 3)).to.deep.equal([0, 512, 1536]);
    expect(new Set(offsets).size).to.equal(offsets.length);
  });

  it('of what is no file there is none: the size of directories, devices and links means nothing', () => {
    for (const type of ['2', '3', '4', '5', '6']) {
      const one = readOne(block({ type, linkName: 'to', size: octal(512) }));
      expect([one.entry.size, one.data.length], type).to.deep.equal([0, 0]);
    }
  });

  it('of a hard link is refused in PAX, where readers differ, and is not there in older archives', () => {
    const carrying = Buffer.concat([
      member({ name: 'a' }, 'data'),
      pax([['mtime', '1.5']]),
      member({ name: 'b', type: '1', linkName: 'a' }, 'data'),
      member({ name: 'c' }, 'more'),
      end,
    ]);
    expect(() => readAll(carrying)).to.throw(InvalidArgument, 'a hard link with content');
    const old = Buffer.concat([
      block({ type: '1', linkName: 'a', size: octal(4) }),
      member({ name: 'c' }, 'x'),
      end,
    ]);
    expect(readAll(old).map(({ entry }) => entry.path.toString())).to.deep.equal(['name', 'c']);
  });
});

describe('the end of an archive', () => {
  const one = member({ name: 'a' }, 'x');
  const zero = Buffer.alloc(512);

  it('is two blocks of zeros, and what is after them does not count', () => {
    expect(readAll(Buffer.concat([one, end, Buffer.from('anything')]))).to.have.length(1);
  });

  it('is one block of zeros at the very end', () => {
    expect(readAll(Buffer.concat([one, zero]))).to.have.length(1);
    expect(readAll(zero)).to.have.length(0);
  });

  it('is not a block of zeros between entries', () => {
    refused('a block of zeros stands before it', one, zero, one, end);
  });

  it('must be there', () => {
    refused('the archive ends without its end mark; it was cut off', one);
    refused('the archive ends without its end mark; it was cut off', Buffer.alloc(0));
    refused('the archive ends in the middle; it was cut off', one, zero.subarray(0, 100));
    refused('the archive ends in the middle; it was cut off', one, zero, zero.subarray(0, 511));
  });

  it('does not come before the entry that a header describes', () => {
    refused('an extended header stands before no entry', pax([['path', 'a']]), end);
    refused('an extended header stands before no entry', member({ type: 'L' }, 'a'), end);
  });

  it('is reached again and again', () => {
    const reader = new TarReader(sourceOf(end));
    expect([reader.next(), reader.next()]).to.deep.equal([undefined, undefined]);
    expect([...reader.content()]).to.have.length(0);
  });

  it('is followed by the rest of the source, all of which drain reads', () => {
    const bytes = Buffer.concat([one, end, Buffer.alloc(3_000_000)]);
    let count = 0;
    const inner = sourceOf(bytes, 700_001);
    const reader = new TarReader({
      read: into => {
        const got = inner.read(into);
        count += got;
        return got;
      },
    });
    while (reader.next() !== undefined);
    reader.drain();
    expect(count).to.equal(bytes.length);
    expect(reader.next()).to.equal(undefined);
  });
});

describe('a refusal', () => {
  it('names the byte and the entry', () => {
    const archive = Buffer.concat([
      member({ name: 'first' }, 'x'),
      block({ name: 'second', size: octal(9999) }),
    ]);
    expect(() => readAll(archive)).to.throw(
      InvalidArgument,
      'the archive cannot be read, the entry "second" at byte 1024: the archive ends in the middle; it was cut off',
    );
  });

  it('names the byte alone when the name is not known', () => {
    expect(() => readAll(padded('no archive at all'))).to.throw(
      InvalidArgument,
      /^the archive cannot be read, the entry at byte 0: its header has a wrong checksum$/,
    );
  });

  it('of the source passes unchanged', () => {
    const failure = new Error('disk');
    const reader = new TarReader({
      read: () => {
        throw failure;
      },
    });
    expect(() => reader.next()).to.throw(failure);
  });
});
