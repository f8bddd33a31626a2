import { expect } from 'chai';
import fc from 'fast-check';
import { compareKeys, prefixEnd } from '../../../src/store/keys.ts';

/** Short texts of the characters at which UTF-8, UTF-16 and code points change their length. */
const edges = [
  '\0',
  '%',
  '_',
  'a',
  'b',
  '\x7f',
  '\x80',
  '\u07ff',
  '\u0800',
  '\ud7ff',
  '\ue000',
  '\uffff',
  '😀',
];
const text = fc
  .array(fc.constantFrom(...edges, '\u{10000}', '\u{10ffff}'), { maxLength: 4 })
  .map(parts => parts.join(''));

describe('the order of keys', () => {
  it('is that of their bytes', () => {
    const sorted = ['', 'A', 'a', 'a/', 'b', 'ä', '\uffee', '\u{10000}', '😀'];
    expect(sorted.toReversed().sort(compareKeys)).to.deep.equal(sorted);
  });

  it('has everything that starts with a prefix, and nothing else, from the prefix up to its end', () => {
    const property = fc.property(text, text, (prefix, key) => {
      const end = prefixEnd(prefix);
      const inside = compareKeys(key, prefix) >= 0 && (end === undefined || compareKeys(key, end) < 0);
      expect(inside).to.equal(key.startsWith(prefix));
      expect(end?.isWellFormed() ?? true).to.equal(true);
    });
    fc.assert(property, { numRuns: 3_000 });
  });

  it('has no end for the empty prefix, nor for one of the last characters only', () => {
    expect(prefixEnd('')).to.equal(undefined);
    expect(prefixEnd('\u{10ffff}\u{10ffff}')).to.equal(undefined);
    expect(prefixEnd('a\u{10ffff}')).to.equal('b');
    expect(prefixEnd('\ud7ff')).to.equal('\ue000');
  });
});
