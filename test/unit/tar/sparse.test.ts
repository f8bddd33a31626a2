import { expect } from 'chai';
import { InvalidArgument } from '../../../src/errors/errors.ts';
import { TarReader } from '../../../src/tar/reader.ts';
import { block, end, gnu, member, octal, padded, pax, readAll, readOne, sourceOf } from './archive.ts';

type Records = readonly (readonly [string, string])[];

/** `data` at 1000 and at 5000 of 10 000 bytes. */
const map = [1000, 4, 5000, 2, 10_000, 0];
const data = 'abcdef';
const expected = Buffer.alloc(10_000);
expected.write('abcd', 1000);
expected.write('ef', 5000);

function oldHeader(pieces: readonly number[], size: number, stored: number, isExtended = false): Buffer {
  const fields = pieces.map((value, at) => [386 + 12 * at, octal(value)] as const);
  const more = [...fields, [482, isExtended ? '\x01' : '\0'] as const, [483, octal(size)] as const];
  return block({ type: 'S', magic: gnu, size: octal(stored), more });
}

function extension(pieces: readonly number[], isExtended: boolean): Buffer {
  const bytes = Buffer.alloc(512);
  for (const [at, value] of pieces.entries()) bytes.write(octal(value), 12 * at, 'latin1');
  bytes[504] = isExtended ? 1 : 0;
  return bytes;
}

const form00 = (pieces: readonly number[], size: number): Records => [
  ['GNU.sparse.size', String(size)],
  ['GNU.sparse.numblocks', String(pieces.length / 2)],
  ...pieces.map(
    (value, at) => [`GNU.sparse.${at % 2 === 0 ? 'offset' : 'numbytes'}`, String(value)] as const,
  ),
];
const form01 = (pieces: readonly number[], size: number): Records => [
  ['GNU.sparse.size', String(size)],
  ['GNU.sparse.numblocks', String(pieces.length / 2)],
  ['GNU.sparse.map', pieces.join()],
];
const form10 = (size: number | string): Records => [
  ['GNU.sparse.major', '1'],
  ['GNU.sparse.minor', '0'],
  ['GNU.sparse.realsize', String(size)],
];

function inData(pieces: readonly number[], content: string): Buffer {
  return Buffer.concat([padded([pieces.length / 2, ...pieces, ''].join('\n')), Buffer.from(content)]);
}

function refused(reason: string, ...parts: readonly Buffer[]): void {
  expect(() => readAll(Buffer.concat([...parts, end]))).to.throw(InvalidArgument, reason);
}

describe('a sparse file', () => {
  it('of the old GNU form is read', () => {
    const one = readOne(oldHeader(map, 10_000, 6), padded(data));
    expect([one.entry.type, one.entry.size]).to.deep.equal(['file', 10_000]);
    expect(one.data).to.deep.equal(expected);
  });

  it('of the old GNU form may have more blocks of pieces', () => {
    const pieces = Array.from({ length: 60 }, (_, at) => [100 * at, 1]).flat();
    const content = 'x'.repeat(60);
    const one = readOne(
      oldHeader(pieces.slice(0, 8), 6000, 60, true),
      extension(pieces.slice(8, 50), true),
      extension(pieces.slice(50, 92), true),
      extension(pieces.slice(92), false),
      padded(content),
    );
    expect(one.data.filter(byte => byte !== 0)).to.have.length(60);
    expect([one.data[0], one.data[5900], one.data[5901]]).to.deep.equal([0x78, 0x78, 0]);
  });

  for (const [form, records] of [
    ['0.0', form00(map, 10_000)],
    ['0.1', form01(map, 10_000)],
  ] as const) {
    it(`of the PAX form ${form} is read`, () => {
      const one = readOne(
        pax([...records, ['GNU.sparse.name', 'real']]),
        member({ name: 'GNUSparseFile.1/x' }, data),
      );
      expect(one.entry.path.toString()).to.equal('real');
      expect(one.data).to.deep.equal(expected);
    });
  }

  it('of the PAX form 1.0 is read', () => {
    const content = inData(map, data);
    const one = readOne(pax([...form10(10_000), ['GNU.sparse.name', 'real']]), member({}, content));
    expect([one.entry.path.toString(), one.entry.size]).to.deep.equal(['real', 10_000]);
    expect(one.data).to.deep.equal(expected);
  });

  it('has its real name before a path that PAX says', () => {
    const records = [
      ...form01(map, 10_000),
      ['GNU.sparse.name', 'real'],
      ['path', 'GNUSparseFile.1/x'],
    ] as const;
    expect(readOne(pax(records), member({}, data)).entry.path.toString()).to.equal('real');
  });

  it('may be all hole, of a size beyond all disks', () => {
    const size = Number.MAX_SAFE_INTEGER;
    const reader = new TarReader(sourceOf(Buffer.concat([pax(form01([], size)), block(), end])));
    expect(reader.next()?.size).to.equal(size);
    expect([...reader.content()]).to.have.length(0);
    expect(reader.next()).to.equal(undefined);
  });

  it('hands out its data alone, each piece where it belongs', () => {
    const reader = new TarReader(sourceOf(Buffer.concat([pax(form01(map, 10_000)), member({}, data), end])));
    reader.next();
    const pieces = [...reader.content()].map(piece => `${piece.offset}:${piece.data}`);
    expect(pieces).to.deep.equal(['1000:abcd', '5000:ef']);
  });

  it('is skipped with its map', () => {
    const sparse = [pax(form10(10_000)), member({}, inData(map, data))];
    const reader = new TarReader(sourceOf(Buffer.concat([...sparse, block({ name: 'next' }), end])));
    reader.next();
    expect(reader.next()?.path.toString()).to.equal('next');
  });
});

describe('a sparse map is refused', () => {
  const bad: readonly (readonly [string, number[], number, string])[] = [
    ['out of order', [5000, 4, 1000, 2], 10_000, 'overlap or are out of order'],
    ['overlapping', [1000, 4, 1003, 2], 10_000, 'overlap or are out of order'],
    ['beyond the end', [1000, 4, 9999, 2], 10_000, 'is beyond the end of the file'],
    ['far beyond the end', [Number.MAX_SAFE_INTEGER, 6], 10_000, 'is beyond the end of the file'],
    ['of less than there is', [1000, 4], 10_000, 'does not match the data that is stored'],
    ['of more than there is', [1000, 400], 10_000, 'does not match the data that is stored'],
  ];
  for (const [what, pieces, size, reason] of bad) {
    it(`that is ${what}`, () => {
      refused(reason, oldHeader(pieces, size, 6), padded(data));
      refused(reason, pax(form00(pieces, size)), member({}, data));
      refused(reason, pax(form01(pieces, size)), member({}, data));
      refused(reason, pax(form10(size)), member({}, inData(pieces, data)));
    });
  }

  it('that lacks something', () => {
    const isIncomplete = 'its sparse map is incomplete';
    refused(isIncomplete, pax(form00([0, 6], 6).with(1, ['GNU.sparse.numblocks', '2'])), member({}, data));
    refused(
      isIncomplete,
      pax([
        ['GNU.sparse.size', '6'],
        ['GNU.sparse.map', '0'],
      ]),
      member({}, data),
    );
    refused(
      isIncomplete,
      pax([
        ['GNU.sparse.size', '6'],
        ['GNU.sparse.offset', '0'],
      ]),
      member({}, data),
    );
    refused(isIncomplete, pax([['GNU.sparse.numbytes', '6']]), member({}, data));
    refused(isIncomplete, pax(form10(10)), member({}, '3\n'));
    refused(isIncomplete, pax(form10(10)), member({}, `300\n${'1\n'.repeat(254)}`));
    refused('it is sparse and has no size', pax([['GNU.sparse.map', '0,6']]), member({}, data));
  });

  it('that is no list of numbers', () => {
    refused('its sparse map is not a number', pax([['GNU.sparse.map', '0,,6']]), member({}, data));
    refused('its sparse map is not a number', pax([['GNU.sparse.map', '0,-6']]), member({}, data));
    refused('its sparse map is not a number', pax(form10(6)), member({}, inData([0, -6], data)));
    refused('its sparse map is not a list of numbers', pax(form10(6)), member({}, Buffer.alloc(512, '1')));
    refused('its sparse map is not a number', pax(form10(6)), member({}, padded('\n\n')));
    const negative = block({ type: 'S', magic: gnu, more: [[386, Buffer.alloc(24, 0xff)]] });
    refused('its sparse map holds a negative number', negative);
  });

  it('that comes twice, or of an unknown form, or of what is no file', () => {
    refused('it has two sparse maps', pax(form01([], 0)), oldHeader([], 0, 0));
    refused(
      'it has two sparse maps',
      pax([...form01([0, 6], 6), ['GNU.sparse.map', '0,6']]),
      member({}, data),
    );
    refused(
      'its sparse form 2.0 is not known',
      pax([
        ['GNU.sparse.major', '2'],
        ['GNU.sparse.size', '1'],
      ]),
      block(),
    );
    refused('it is sparse and not a file', pax(form01([], 0)), block({ type: '5' }));
  });

  it('that has more pieces than are kept', () => {
    refused('has more than 1048576 pieces', pax(form10(10)), member({}, padded('1048577\n')));
  });

  it('of a negative size', () => {
    const size = Buffer.alloc(12, 0xff);
    refused('its size -1 is not in', block({ type: 'S', magic: gnu, more: [[483, size]] }));
  });
});
