import { expect } from 'chai';
import fc from 'fast-check';
import { formatBytes, parseSize } from '../../../src/core/quantity.ts';
import { InvalidArgument } from '../../../src/errors/errors.ts';

describe('sizes', () => {
  const sizes: Readonly<Record<string, number>> = {
    '1': 1,
    '1048576': 2 ** 20,
    '10b': 10,
    '1k': 1024,
    '1K': 1024,
    '1kb': 1000,
    '1KiB': 1024,
    '500Mi': 500 * 2 ** 20,
    '10g': 10 * 2 ** 30,
    '10G': 10 * 2 ** 30,
    '10GB': 10 * 10 ** 9,
    '10Gi': 10 * 2 ** 30,
    '1.5T': 1.5 * 2 ** 40,
    '1p': 2 ** 50,
    ' 1g ': 2 ** 30,
    '0.5': 1,
  };
  for (const [text, bytes] of Object.entries(sizes)) {
    it(`reads ${text} as ${bytes} bytes`, () => {
      expect(parseSize(text)).to.equal(bytes);
    });
  }

  for (const text of [
    '',
    '0',
    '0g',
    '-1g',
    '1gg',
    '1 g',
    'g',
    '1.g',
    '.5g',
    '1e',
    '10i',
    '10ib',
    '1x',
    '1e3',
    '0x10',
    '9e',
    '∞',
    'NaN',
    '1g\n1',
  ]) {
    it(`refuses ${JSON.stringify(text)} and shows how to write a size`, () => {
      expect(() => parseSize(text)).to.throw(InvalidArgument, 'write it like 500Mi');
    });
  }

  it('never gives anything but a positive whole number', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9.]{1,20}[kmgtpeKMGTPE]?[iI]?[bB]?$/), text => {
        let bytes: number;
        try {
          bytes = parseSize(text);
        } catch (error) {
          expect(error).to.be.instanceOf(InvalidArgument);
          return;
        }
        expect(Number.isSafeInteger(bytes) && bytes > 0, `${text} is ${bytes}`).to.equal(true);
      }),
    );
  });

  it('writes bytes for people', () => {
    expect([0, 1, 1023, 1024, 1536, 2 ** 30, 100 * 2 ** 20, 2 ** 60].map(formatBytes)).to.deep.equal([
      '0 B',
      '1 B',
      '1023 B',
      '1.0 KiB',
      '1.5 KiB',
      '1.0 GiB',
      '100 MiB',
      '1.0 EiB',
    ]);
  });
});
