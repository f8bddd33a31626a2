import { distance } from 'fastest-levenshtein';

/**
 * The candidate that `word` was most likely meant to be, or undefined when none is similar. Case and
 * separators do not count: `admin-socket` is `adminSocket`.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const apart = dissimilarity(fold(word), fold(candidate));
    if (apart < bestDistance) {
      best = candidate;
      bestDistance = apart;
    }
  }
  return best;
}

/** The edit distance, or infinity when the words are too different to be meant for one another. */
function dissimilarity(word: string, candidate: string): number {
  const apart = distance(word, candidate);
  const shorter = Math.min(word.length, candidate.length);
  const extended = shorter >= 3 && (candidate.startsWith(word) || word.startsWith(candidate));
  const related = extended || sorted(word) === sorted(candidate);
  const close = apart <= Math.ceil(Math.max(word.length, candidate.length) / 3);
  return related || close ? apart : Number.POSITIVE_INFINITY;
}

function sorted(word: string): string {
  return [...word].sort().join('');
}

function fold(text: string): string {
  return text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
}
