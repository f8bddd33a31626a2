/**
 * The patterns of filters: RE2's (https://github.com/google/re2/wiki/Syntax), as engines write them in Go. V8's own
 * engine tries one way after the other, which for some patterns takes longer than anybody waits, and the main thread
 * stands still meanwhile. Here all ways are followed at once, so that a match takes time in proportion to the text.
 */
import { compile, type Edge, type State } from './pattern-syntax.ts';

/** How far all ways have come. */
interface Place {
  readonly states: readonly State[];
  /** What stands before it. */
  readonly before: Edge;
  /** By the next character, '' at the end; null where the pattern is found. */
  readonly next: Map<string, Place | null>;
}

/** Most steps from place to place that are remembered, for texts that are alike. */
const maxSteps = 10_000;

export class Pattern {
  readonly #start: State;
  readonly #places = new Map<string, Place>();
  #steps = 0;

  /** @throws InvalidArgument */
  constructor(text: string) {
    this.#start = compile(text);
  }

  /** @returns whether it is found anywhere in the text */
  test(text: string): boolean {
    let place: Place | null = this.#placeOf([], 'end');
    for (const char of text) {
      place = this.#after(place, char);
      if (place === null) return true;
    }
    return this.#after(place, '') === null;
  }

  #after(place: Place, char: string): Place | null {
    const known = place.next.get(char);
    if (known !== undefined) return known;
    const after = edgeOf(char);
    const reached = reachable(place, after);
    const next = reached === 'found' ? null : this.#placeOf(passing(reached, char), after);
    if (++this.#steps > maxSteps) {
      this.#places.clear();
      this.#steps = 0;
    }
    place.next.set(char, next);
    return next;
  }

  /** The pattern may begin at each of them. */
  #placeOf(ahead: readonly State[], before: Edge): Place {
    const key = before + String.fromCharCode(...ahead.map(({ number }) => number));
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const place = { states: [...ahead, this.#start], before, next: new Map() };
    this.#places.set(key, place);
    return place;
  }
}

/** The states that no character separates from a place. */
function reachable({ states, before }: Place, after: Edge): Iterable<State> | 'found' {
  const reached = new Set<State>();
  const pending = [...states];
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    if (state.kind === 'found') return 'found';
    if (reached.has(state)) continue;
    reached.add(state);
    if (state.kind === 'fork') pending.push(...state.to);
    if (state.kind === 'edge' && state.holds(before, after)) pending.push(state.next);
  }
  return reached;
}

function passing(states: Iterable<State>, char: string): readonly State[] {
  const next = new Set<State>();
  for (const state of states) if (state.kind === 'char' && state.fits(char)) next.add(state.next);
  return [...next];
}

function edgeOf(char: string): Edge {
  if (char === '') return 'end';
  if (char === '\n') return 'line';
  return /^\w/.test(char) ? 'word' : 'other';
}
