import { InvalidArgument } from '../../errors/errors.ts';
import { show } from '../names.ts';

/** What stands on one side of a place in a text; `end` where the text begins, too. */
export type Edge = 'end' | 'line' | 'word' | 'other';

/** What a pattern waits for. States that follow each other make a machine (Thompson, 1968). */
export type State = { readonly number: number } & (
  | { readonly kind: 'char'; readonly fits: (char: string) => boolean; readonly next: State }
  | { readonly kind: 'edge'; readonly holds: Holds; readonly next: State }
  | { readonly kind: 'fork'; readonly to: State[] }
  | { readonly kind: 'found' }
);

type Holds = (before: Edge, after: Edge) => boolean;

/** A part of a pattern: the state in which it begins when this one follows it. */
type Part = (next: State) => State;

/** What `(?ims)` switches. */
interface Flags {
  readonly anyCase: boolean;
  readonly manyLines: boolean;
  readonly dotIsAll: boolean;
}

/** Go refuses higher counts (regexp/syntax), and what is larger than this or nested deeper is no filter. */
const maxCount = 1000;
const maxSize = 256;
const maxDepth = 100;

/** @returns the first state @throws InvalidArgument */
export function compile(text: string): State {
  return new Parser(text).whole();
}

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;
  #size = 0;
  #flags: Flags = { anyCase: false, manyLines: false, dotIsAll: false };

  constructor(text: string) {
    this.#text = text;
  }

  whole(): State {
    const part = this.#either();
    if (this.#at < this.#text.length) throw this.#failure('")" is too many');
    return part({ kind: 'found', number: this.#grown() });
  }

  #either(): Part {
    const ways = [this.#sequence()];
    while (this.#take(/\|/y)) ways.push(this.#sequence());
    const [only] = ways;
    return only !== undefined && ways.length === 1 ? only : next => this.#fork(ways.map(way => way(next)));
  }

  #sequence(): Part {
    const parts: Part[] = [];
    while (this.#peek(/[^|)]/y)) parts.push(this.#repeated(this.#single()));
    return next => parts.reduceRight((after, part) => part(after), next);
  }

  /** Whether as much or as little as possible is taken makes no difference to what is found. */
  #repeated(part: Part): Part {
    const sign = this.#take(/(?:([*+?])|\{(\d+)(,?)(\d*)\})\??/y);
    if (sign === undefined) return part;
    if (this.#peek(/[*+?]|\{\d+,?\d*\}/y)) throw this.#failure('a repetition is repeated');
    const [, short, least = '0', comma, most] = sign;
    if (short === '*') return this.#times(part, 0, undefined);
    if (short === '+') return this.#times(part, 1, undefined);
    if (short === '?') return this.#times(part, 0, 1);
    const from = Number(least);
    const to = comma === '' ? from : most === '' ? undefined : Number(most);
    if (Math.max(from, to ?? 0) > maxCount || from > (to ?? from))
      throw this.#failure('the counts are wrong');
    return this.#times(part, from, to);
  }

  #times(part: Part, least: number, most: number | undefined): Part {
    return next => {
      let begin = next;
      if (most === undefined) {
        const to: State[] = [];
        begin = this.#fork(to);
        to.push(part(begin), next);
      }
      for (let at = least; at < (most ?? least); at += 1) begin = this.#fork([part(begin), next]);
      for (let at = 0; at < least; at += 1, this.#grown()) begin = part(begin);
      return begin;
    };
  }

  #single(): Part {
    if (this.#take(/\(/y)) return this.#group();
    if (this.#take(/\[/y)) return this.#char(this.#classSource());
    const { manyLines, dotIsAll } = this.#flags;
    if (this.#take(/\./y)) return this.#char(dotIsAll ? '[^]' : '[^\\n]');
    const isEnd = (edge: Edge) => edge === 'end' || (manyLines && edge === 'line');
    if (this.#take(/\^/y)) return this.#edge(before => isEnd(before));
    if (this.#take(/\$/y)) return this.#edge((_before, after) => isEnd(after));
    if (this.#take(/\\A/y)) return this.#edge(before => before === 'end');
    if (this.#take(/\\z/y)) return this.#edge((_before, after) => after === 'end');
    const border = this.#take(/\\([bB])/y)?.[1];
    if (border !== undefined) {
      return this.#edge((before, after) => ((before === 'word') !== (after === 'word')) === (border === 'b'));
    }
    if (this.#peek(/[*+?]/y)) throw this.#failure('there is nothing to repeat');
    return this.#char(this.#member());
  }

  #group(): Part {
    const outside = this.#flags;
    const opening = this.#take(/\?(?:P?<\w+>|([imsU]*)(?:-([imsU]+))?([:)]))/y);
    if (opening === undefined && this.#peek(/\?/y)) throw this.#failure('"(?" means nothing here');
    const [, on = '', off = '', end] = opening ?? [];
    const flag = (letter: string, before: boolean) =>
      !off.includes(letter) && (before || on.includes(letter));
    this.#flags = {
      anyCase: flag('i', outside.anyCase),
      manyLines: flag('m', outside.manyLines),
      dotIsAll: flag('s', outside.dotIsAll),
    };
    if (end === ')') return next => next;
    if (++this.#depth > maxDepth) throw this.#failure('too many groups are nested');
    const inside = this.#either();
    if (!this.#take(/\)/y)) throw this.#failure('")" is missing');
    this.#depth -= 1;
    this.#flags = outside;
    return inside;
  }

  /** What is left of `[...]`, for V8: every character of its own as a number. */
  #classSource(): string {
    let source = this.#take(/\^/y) ? '^' : '';
    // One that stands first does not end it.
    do {
      const named = this.#take(/\[:(\w+):\]/y)?.[1];
      if (named !== undefined) source += this.#named(named);
      else source += this.#member() + (this.#take(/-(?!\])/y) ? `-${this.#member()}` : '');
    } while (!this.#take(/\]/y));
    return `[${source}]`;
  }

  #member(): string {
    return this.#escape() ?? this.#literal();
  }

  #named(name: string): string {
    const source = classes.get(name);
    if (source === undefined) throw this.#failure(`[:${name}:] means nothing`);
    return source;
  }

  #escape(): string | undefined {
    if (!this.#peek(/\\/y)) return undefined;
    const code = this.#take(/\\(?:x([0-9a-fA-F]{2})|x\{([0-9a-fA-F]{1,6})\})/y);
    if (code !== undefined) return `\\u{${code[1] ?? code[2]}}`;
    const octal = this.#take(/\\(0[0-7]{0,2}|[1-7][0-7]{1,2})/y)?.[1];
    if (octal !== undefined) return `\\u{${Number.parseInt(octal, 8).toString(16)}}`;
    const property = this.#take(/\\([pP])(?:([A-Z])|\{(\w+)\})/y);
    if (property !== undefined) return propertySource(property[1] ?? 'p', property[2] ?? property[3] ?? '');
    const sign = this.#take(/\\([!-/:-@[-`{-~])/y)?.[1];
    if (sign !== undefined) return numbered(sign);
    const letter = this.#take(/\\([dDwWsSaftnrv])/y)?.[1];
    if (letter === undefined) throw this.#failure('"\\" and what follows mean nothing');
    return letters.get(letter) ?? `\\${letter}`;
  }

  #literal(): string {
    const char = this.#take(/./suy)?.[0];
    if (char === undefined) throw this.#failure('"]" is missing');
    return numbered(char);
  }

  /** @param source what V8 takes for one character */
  #char(source: string): Part {
    const wanted = this.#compiled(source);
    return next => ({ kind: 'char', fits: char => wanted.test(char), next, number: this.#grown() });
  }

  #compiled(source: string): RegExp {
    try {
      return new RegExp(`^${source}$`, this.#flags.anyCase ? 'iv' : 'v');
    } catch {
      throw this.#failure('it is no set of characters');
    }
  }

  #edge(holds: Holds): Part {
    return next => ({ kind: 'edge', holds, next, number: this.#grown() });
  }

  #fork(to: State[]): State {
    return { kind: 'fork', to, number: this.#grown() };
  }

  /** @returns a number that no other state has */
  #grown(): number {
    if (++this.#size > maxSize) throw this.#failure('it is too large');
    return this.#size;
  }

  #peek(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    return pattern.test(this.#text);
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text) ?? undefined;
    this.#at += found?.[0].length ?? 0;
    return found;
  }

  #failure(reason: string): InvalidArgument {
    return new InvalidArgument(
      `the pattern ${show(this.#text)} is not one of RE2 at character ${this.#at + 1}: ${reason}`,
    );
  }
}

function numbered(char: string): string {
  return `\\u{${char.codePointAt(0)?.toString(16)}}`;
}

/** `Greek` is a script, `L` and `Lu` are categories. */
function propertySource(sign: string, name: string): string {
  return name.length > 2 ? `\\${sign}{Script=${name}}` : `\\${sign}{${name}}`;
}

/** Where RE2 means something else than V8, or V8 knows no such letter. */
const letters = new Map([
  ['a', String.raw`\x07`],
  ['s', String.raw`[\t\n\f\r ]`],
  ['S', String.raw`[^\t\n\f\r ]`],
]);

const classes = new Map([
  ['alnum', '0-9A-Za-z'],
  ['alpha', 'A-Za-z'],
  ['ascii', String.raw`\x00-\x7f`],
  ['blank', String.raw`\t `],
  ['cntrl', String.raw`\x00-\x1f\x7f`],
  ['digit', '0-9'],
  ['graph', String.raw`\x21-\x7e`],
  ['lower', 'a-z'],
  ['print', String.raw`\x20-\x7e`],
  ['punct', String.raw`\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e`],
  ['space', String.raw`\t-\r `],
  ['upper', 'A-Z'],
  ['word', String.raw`\w`],
  ['xdigit', '0-9A-Fa-f'],
]);
