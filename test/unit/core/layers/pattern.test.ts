import { expect } from 'chai';
import { Pattern } from '../../../../src/core/layers/pattern.ts';
import { InvalidArgument } from '../../../../src/errors/errors.ts';

/** Patterns with a text in which each is found, and one in which it is not. */
const cases: readonly (readonly [pattern: string, found: string, not?: string])[] = [
  ['', ''],
  ['^$', '', 'a'],
  ['a|', 'zzz'],
  ['^a', 'ab', 'ba'],
  ['b$', 'ab', 'b\n'],
  ['(?m)^b$', 'a\nb\nc', 'ab'],
  ['^.$', '😀', '\n'],
  ['(?s)^.$', '\n', ''],
  ['^(?:(a*)*)*b$', 'aaab', 'aaac'],
  ['^a{2,3}$', 'aaa', 'aaaa'],
  ['^a{2,}$', 'aaaa', 'a'],
  ['^[0-9a-f]{64}$', '5'.repeat(64), '5'.repeat(65)],
  ['a+?b', 'aab', 'b'],
  ['a{,2}', 'a{,2}', 'aa'],
  ['x{', 'x{', 'x'],
  ['^(a|bc)*d', 'abcad', 'abad'],
  ['(?P<n>a)(?<m>b)', 'ab', 'a'],
  ['(?i)SHA', 'sha256', 'shb'],
  ['(?i:A)b', 'Ab', 'AB'],
  ['(?i)a(?-i)B', 'AB', 'ab'],
  [String.raw`\bfoo\b`, 'a foo b', 'afoo'],
  [String.raw`o\B`, 'oo', 'o o'],
  [String.raw`\Aa\z`, 'a', 'a\n'],
  [String.raw`^\x41\x{1F600}\101$`, 'A😀A', 'AA'],
  [String.raw`\.`, 'a.b', 'ab'],
  [String.raw`^\D\W\S`, 'a-b', 'a-\v '.slice(0, 2)],
  [String.raw`^\s`, '\t', '\v'],
  [String.raw`[^\S]`, ' ', 'a'],
  [String.raw`[a\]-]`, '-', 'b'],
  ['[]a]', ']', 'b'],
  ['[^]a]', 'b', ']a'],
  ['[--/]', '.', '0'],
  ['[(&&)~~]', '&', '!'],
  ['[[:alpha:]_]', '_', '1'],
  ['[[:punct:]]', '~', 'a'],
  [String.raw`\pL`, '1é', '1'],
  [String.raw`\p{Greek}`, 'α', 'a'],
  [String.raw`\P{Lu}`, 'a', 'A'],
];

const refused = [
  ...[
    '(',
    ')',
    '(?=a)',
    '(?<!a)',
    '(?Z)a',
    String.raw`(a)\1`,
    'a**',
    'a{2}{3}',
    '*a',
    '[',
    '[z-a]',
    'a{1001}',
  ],
  ...['a{3,2}', '[[:foo:]]', '\\', String.raw`\q`, String.raw`\p{Nope}`, String.raw`[\d-a]`],
  ...['(a{200}){200}', '((((){1000}){1000}){1000}){1000}', '('.repeat(5000)],
];

describe('the patterns of filters', () => {
  for (const [pattern, found, not] of cases) {
    it(`${pattern || 'an empty one'} is found in ${JSON.stringify(found)}`, () => {
      expect(new Pattern(pattern).test(found)).to.equal(true);
      if (not !== undefined) expect(new Pattern(pattern).test(not), not).to.equal(false);
    });
  }

  for (const pattern of refused) {
    it(`${pattern.slice(0, 40)} is refused, as RE2 does`, () => {
      expect(() => new Pattern(pattern)).to.throw(InvalidArgument, 'is not one of RE2 at character');
    });
  }

  it('need no more time where V8 would try every way', () => {
    const hostile = `${'a'.repeat(4095)}b`;
    const start = performance.now();
    for (const pattern of ['^(a+)+$', '^(a|a)*$', 'a*a*a*a*a*c', '(a?){50}a{50}c', '.*.*.*=.*']) {
      expect(new Pattern(pattern).test(hostile), pattern).to.equal(false);
    }
    expect(performance.now() - start).to.be.below(2000);
  });

  it('give the same answer again and again, also once what was remembered is forgotten', () => {
    const pattern = new Pattern('a[^b]{3}c$');
    for (let at = 0; at < 30; at += 1) {
      const text = String.fromCodePoint(
        ...Array.from({ length: 600 }, (_, index) => 0x4e00 + at * 600 + index),
      );
      expect(pattern.test(`${text}a123c`)).to.equal(true);
      expect(pattern.test(`${text}a1b3c`)).to.equal(false);
    }
  });
});
