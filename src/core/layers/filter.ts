/**
 * containerd's filters (pkg/filters): selectors joined by `,`, all of which have to hold. A selector is a field,
 * which then has to be present, or a field, an operator and a value; fields and values that hold anything but
 * letters, digits and a few signs are quoted as in Go.
 *
 * ```
 * kind==committed,labels."containerd.io/gc.root"      name~=^sha256:      parent!=""
 * ```
 */
import { InvalidArgument, messageOf } from '../../errors/errors.ts';
import { show } from '../names.ts';
import type { LayerInfo } from './layer-store.ts';
import { Pattern } from './pattern.ts';

type Predicate = (info: LayerInfo) => boolean;

/** @returns whether one of the filters holds; without any, every layer passes. @throws InvalidArgument */
export function parseFilters(filters: readonly string[]): Predicate {
  const alternatives = filters.map(parseFilter);
  return info => alternatives.length === 0 || alternatives.some(holds => holds(info));
}

function parseFilter(text: string): Predicate {
  if (text === '') return () => true;
  const scanner = new Scanner(text);
  const selectors = [selectorFrom(scanner)];
  while (!scanner.atEnd) {
    scanner.expect(',');
    selectors.push(selectorFrom(scanner));
  }
  return info => selectors.every(holds => holds(info));
}

function selectorFrom(scanner: Scanner): Predicate {
  const path = [scanner.word('a field')];
  while (scanner.take('.')) path.push(scanner.word('a field'));
  const found = (info: LayerInfo) => fieldOf(info, path);
  const operator = scanner.takeOperator();
  if (operator === undefined) return info => found(info) !== undefined;
  const wanted = scanner.value();
  if (operator === '==') return info => found(info) === wanted;
  if (operator === '!=') return info => (found(info) ?? '') !== wanted;
  const pattern = patternFrom(wanted, scanner);
  return info => pattern.test(found(info) ?? '');
}

/** Undefined when it is not there: an unknown field, a label that is missing. The parent may be empty. */
function fieldOf(info: LayerInfo, path: readonly string[]): string | undefined {
  const [field, ...rest] = path;
  if (field === 'labels') return new Map(Object.entries(info.labels)).get(rest.join('.'));
  if (rest.length > 0) return undefined;
  if (field === 'name' || field === 'kind') return info[field];
  return field === 'parent' ? (info.parent ?? '') : undefined;
}

function patternFrom(text: string, scanner: Scanner): Pattern {
  try {
    return new Pattern(text);
  } catch (error) {
    throw scanner.failure(messageOf(error));
  }
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  take(sign: string): boolean {
    const found = this.#text.startsWith(sign, this.#at);
    if (found) this.#at += sign.length;
    return found;
  }

  expect(sign: string): void {
    if (!this.take(sign)) throw this.failure(`"${sign}" is missing`);
  }

  takeOperator(): '==' | '!=' | '~=' | undefined {
    return (['==', '!=', '~='] as const).find(operator => this.take(operator));
  }

  /** A plain or a quoted word. */
  word(what: string): string {
    const word = this.#match(/[A-Za-z0-9_]+/y) ?? this.#quoted(/"(?:[^"\\]|\\.)*"/y);
    if (word === undefined) throw this.failure(`${what} is missing`);
    return word;
  }

  /** Up to the next `,` or space, or quoted, also with the signs that keep regular expressions readable. */
  value(): string {
    const quoted =
      this.#quoted(/"(?:[^"\\]|\\.)*"/y) ??
      this.#bare(/\/((?:[^/\\]|\\.)*)\//y) ??
      this.#bare(/\|([^|]*)\|/y);
    const value = quoted ?? this.#match(/[^\s,"=!~/|][^\s,"]*/y);
    if (value === undefined) throw this.failure('a value is missing');
    return value;
  }

  failure(reason: string): InvalidArgument {
    return new InvalidArgument(
      `the filter ${show(this.#text)} cannot be read at character ${this.#at + 1} (${reason}); write it as ` +
        'name==VALUE, kind!=VALUE, parent~=PATTERN or labels."NAME", joined by commas',
    );
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #bare(pattern: RegExp): string | undefined {
    return this.#match(pattern)?.slice(1, -1);
  }

  #quoted(pattern: RegExp): string | undefined {
    const found = this.#match(pattern);
    return found?.slice(1, -1).replace(goEscape, (sequence, ...codes: (string | undefined)[]) => {
      const [hex2, hex4, hex8, octal] = codes;
      const hex = hex2 ?? hex4 ?? hex8;
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
      const sign = signs[sequence];
      if (sign === undefined) throw this.failure(`${sequence} means nothing`);
      return sign;
    });
  }
}

/** Go language specification, "Rune literals". */
const goEscape =
  /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|([0-3][0-7]{2})|.)/gs;
const signs: Readonly<Record<string, string>> = {
  '\\a': '\x07',
  '\\b': '\b',
  '\\f': '\f',
  '\\n': '\n',
  '\\r': '\r',
  '\\t': '\t',
  '\\v': '\v',
  '\\\\': '\\',
  '\\"': '"',
};
