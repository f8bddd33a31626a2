import { expect } from 'chai';
import fc from 'fast-check';
import { InvalidArgument } from '../../../src/errors/errors.ts';
import { limits } from '../../../src/tar/entry.ts';
import { type ByteSource, TarReader } from '../../../src/tar/reader.ts';
import { block, end, entryOf, gnu, member, octal, padded, pax, sourceOf, writeAll } from './archive.ts';

/** Reads everything and keeps nothing. @returns how many entries */
function survey(source: ByteSource): number {
  const reader = new TarReader(source);
  let count = 0;
  for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
    count += 1;
    let last = 0;
    for (const { offset, data } of reader.content()) {
      if (offset < last || offset + data.length > entry.size) throw new Error('a piece is out of its place');
      last = offset + data.length;
    }
  }
  reader.drain();
  return count;
}

/** Reads everything: true, or false when it is refused as it has to be. */
function isAccepted(archive: Buffer): boolean {
  try {
    survey(sourceOf(archive));
    return true;
  } catch (error) {
    if (error instanceof InvalidArgument) return false;
    throw error;
  }
}

/** Everything that an archive can hold; two blocks of zeros are at its end. */
const archive = Buffer.concat([
  pax(
    [
      ['comment', 'all'],
      ['gid', '7'],
    ],
    'g',
  ),
  member({ name: 'L', type: 'L', magic: gnu }, `${'long/'.repeat(50)}name\0`),
  member({ name: 'K', type: 'K', magic: gnu }, `${'long/'.repeat(50)}target\0`),
  block({ type: '2', magic: gnu }),
  pax([
    ['path', 'p'.repeat(300)],
    ['mtime', '-1.5'],
    ['SCHILY.xattr.user.a', '\0\xff'],
    ['LIBARCHIVE.xattr.user.b', 'AAAA'],
  ]),
  member({}, 'content'),
  pax([
    ['GNU.sparse.size', '9999'],
    ['GNU.sparse.map', '10,4,100,2'],
    ['GNU.sparse.numblocks', '2'],
  ]),
  member({}, 'sparse'),
  pax([
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.realsize', '9999'],
    ['GNU.sparse.name', 's'],
  ]),
  member({}, Buffer.concat([padded('2\n10\n4\n100\n2\n'), Buffer.from('sparse')])),
  block({
    type: 'S',
    magic: gnu,
    size: octal(6),
    more: [
      [386, octal(10)],
      [398, octal(6)],
      [482, '\x01'],
      [483, octal(50)],
    ],
  }),
  Buffer.alloc(512),
  member({}, 'sparse').subarray(512),
  writeAll([
    { entry: entryOf('big', { size: 5000, uid: 4_000_000_000 }), data: Buffer.alloc(5000, 'x') },
    {
      entry: entryOf('device', { type: 'character', device: { major: 1, minor: 3 } }),
      data: Buffer.alloc(0),
    },
    { entry: entryOf('fifo', { type: 'fifo' }), data: Buffer.alloc(0) },
    { entry: entryOf('link', { type: 'hardlink', linkPath: Buffer.from('big') }), data: Buffer.alloc(0) },
    { entry: entryOf('directory', { type: 'directory' }), data: Buffer.alloc(0) },
  ]),
]);

/** Makes the checksum right again, where there is a header. */
function withChecksum(bytes: Buffer, start: number): void {
  bytes.fill(' ', start + 148, start + 156);
  const sum = bytes.subarray(start, start + 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${octal(sum, 6)}\0 `, start + 148, 'latin1');
}

describe('a hostile archive', () => {
  before(() => {
    expect(survey(sourceOf(archive))).to.equal(10);
  });

  it('that was cut off is refused, wherever that was', () => {
    for (let length = 0; length < archive.length - 512; length += 512) {
      expect(isAccepted(archive.subarray(0, length)), `${length} bytes`).to.equal(false);
    }
    expect(isAccepted(archive.subarray(0, archive.length - 512)), 'one block of zeros').to.equal(true);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: archive.length - 1 }), length => {
        fc.pre(length !== archive.length - 512);
        expect(isAccepted(archive.subarray(0, length))).to.equal(false);
      }),
      { numRuns: 1000 },
    );
  });

  it('with flipped bits is read or refused, and nothing else happens', () => {
    const flips = fc.array(fc.nat(archive.length * 8 - 1), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(flips, bits => {
        const bytes = Buffer.from(archive);
        for (const bit of bits) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        isAccepted(bytes);
      }),
      { numRuns: 1000 },
    );
  });

  it('with other bytes below a right checksum is read or refused, and nothing else happens', () => {
    const starts = Array.from({ length: archive.length / 512 }, (_, at) => 512 * at).filter(
      start => archive.toString('latin1', start + 257, start + 262) === 'ustar',
    );
    const change = fc.tuple(
      fc.constantFrom(...starts),
      fc.nat(511),
      fc.constantFrom(0, 0x20, 0x2d, 0x2f, 0x31, 0x53, 0x78, 0x80, 0xff),
    );
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), changes => {
        const bytes = Buffer.from(archive);
        for (const [start, offset, value] of changes) {
          bytes[start + offset] = value;
          withChecksum(bytes, start);
        }
        if (isAccepted(bytes)) accepted += 1;
      }),
      { numRuns: 1000 },
    );
    expect(accepted, 'changes that the checksum hid').to.be.within(50, 950);
  });

  it('of any bytes is refused', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 3000 }), bytes => void isAccepted(Buffer.from(bytes))));
  });

  for (const [what, size] of [
    ['2^63', Buffer.from('800000008000000000000000', 'hex')],
    ['2^64 - 1', Buffer.from('80000000ffffffffffffffff', 'hex')],
    ['2^94', Buffer.from('bfffffffffffffffffffffff', 'hex')],
    ['-1', Buffer.from('ffffffffffffffffffffffff', 'hex')],
    ['-2^63', Buffer.from('ffffffff8000000000000000', 'hex')],
    ['2^53 - 1', Buffer.from('80000000001fffffffffffff', 'hex')],
  ] as const) {
    it(`of the size ${what} is refused, whatever has it`, () => {
      for (const type of ['0', '7', 'S', 'L', 'K', 'x', 'g']) {
        expect(isAccepted(Buffer.concat([block({ type, size }), end])), type).to.equal(false);
      }
      const link = block({ type: '1', linkName: 'to', size });
      expect(isAccepted(Buffer.concat([pax([['uid', '1']]), link, end]))).to.equal(false);
    });
  }
});

/** Gives `first`, and then `next` for ever; counts what was taken. */
class Endless implements ByteSource {
  #pending: Buffer;
  readonly #next: (round: number) => Buffer;
  #round = 0;
  taken = 0;

  constructor(first: Buffer, next: (round: number) => Buffer) {
    this.#pending = first;
    this.#next = next;
  }

  read(into: Buffer): number {
    if (this.#pending.length === 0) {
      this.#pending = this.#next(this.#round);
      this.#round += 1;
    }
    const count = this.#pending.copy(into);
    this.#pending = this.#pending.subarray(count);
    this.taken += count;
    return count;
  }
}

describe('what has no end is refused soon', () => {
  const none = Buffer.alloc(0);
  const full = pax([['comment', 'x'.repeat(2 ** 20 - 17)]]);
  const digits = Buffer.from('0\n'.repeat(2 ** 15));
  const huge = { size: Buffer.from('800000000000ffffffffffff', 'hex') };
  const map = pax([
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.realsize', '1'],
  ]);

  for (const [what, source, most] of [
    ['extended headers', new Endless(none, () => full), limits.headers],
    ['global headers', new Endless(none, () => pax([['comment', 'x']], 'g')), limits.headers],
    [
      'large global headers',
      new Endless(none, () => pax([['comment', 'x'.repeat(9e5)]], 'g')),
      limits.headers,
    ],
    ['long names', new Endless(none, () => member({ type: 'L' }, '')), limits.headers],
    [
      'one long name',
      new Endless(block({ type: 'L', size: octal(2 ** 30) }), () => Buffer.alloc(512, 'x')),
      0,
    ],
    [
      'one extended header',
      new Endless(block({ type: 'x', size: octal(2 ** 30) }), () => Buffer.alloc(512, 'x')),
      0,
    ],
    [
      'blocks of sparse pieces',
      new Endless(block({ type: 'S', magic: gnu, more: [[482, '\x01']] }), () =>
        Buffer.concat([Buffer.from(`${octal(0)}\0${octal(0)}\0`.repeat(21), 'latin1'), Buffer.alloc(8, 1)]),
      ),
      512 * (limits.pieces / 21 + 2),
    ],
    [
      'sparse pieces in the data',
      new Endless(Buffer.concat([map, block(huge), Buffer.from('1048576\n')]), () => digits),
      4 * limits.pieces + 512,
    ],
    [
      'digits of a number',
      new Endless(Buffer.concat([map, block(huge)]), () => Buffer.alloc(512, '1')),
      1024,
    ],
  ] as const) {
    it(what, () => {
      expect(() => survey(source)).to.throw(InvalidArgument);
      // What the reader has read ahead comes on top.
      expect(source.taken).to.be.below(most + 2 ** 20 + 4096);
    });
  }

  it('and entries keep nothing of large headers that came before them', () => {
    const archive = Buffer.concat([full, block()]);
    const source = new Endless(none, round => (round < 500 ? archive : end));
    const before = process.memoryUsage().arrayBuffers;
    const reader = new TarReader(source);
    const kept = [];
    for (let entry = reader.next(); entry !== undefined; entry = reader.next()) kept.push(entry);
    expect(kept).to.have.length(500);
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(2 ** 25);
  });
});
