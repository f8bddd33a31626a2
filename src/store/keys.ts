/**
 * The order of keys: that of the bytes of their UTF-8 text. JavaScript's own `<` compares UTF-16 units, which
 * puts U+10000 before U+FFFF.
 */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * The smallest text that is greater than every text that starts with `prefix`; undefined when there is none.
 * UTF-8 keeps the order of code points (RFC 3629, section 1), so it ends in the next code point.
 */
export function prefixEnd(prefix: string): string | undefined {
  const points = Array.from(prefix, character => character.codePointAt(0) ?? 0);
  while (points.at(-1) === 0x10ffff) points.pop();
  const last = points.pop();
  if (last === undefined) return undefined;
  // The numbers from 0xd800 to 0xdfff are halves of UTF-16 pairs, and no characters.
  return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
}
