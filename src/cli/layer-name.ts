/** How much of a digest is shown, as docker does. */
const digestDigits = 12;

const longest = 60;

/**
 * A name that is short enough for a table: digests are cut, and what is still too long loses its middle. As long as
 * no `…` stands in it, it can be typed for the layer.
 */
export function shortName(name: string): string {
  const cut = name.replaceAll(/[0-9a-f]{64}(?![0-9a-f])/g, (digest, at: number) => {
    const isEnd = at + digest.length === name.length;
    return `${digest.slice(0, digestDigits)}${isEnd ? '' : '…'}`;
  });
  if (cut.length <= longest) return cut;
  const half = Math.floor(longest / 2);
  return `${cut.slice(0, half)}…${cut.slice(1 + half - longest)}`;
}
