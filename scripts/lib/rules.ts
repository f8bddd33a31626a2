import type { TestResult } from './results.ts';

export interface Rule {
  /** Such as `S5`. */
  readonly number: string;
  readonly done: boolean;
}

/** The rows of the tables of `docs/rules.md`: number, rule, source, state. */
export function parseRules(markdown: string): readonly Rule[] {
  const rows = markdown.matchAll(/^\| ([SRBW]\d+) \|.*\| (\w+) \|$/gm);
  return [...rows].map(([, number = '', state]) => ({ number, done: state === 'done' }));
}

/** The rule numbers in a title or a source text. */
export function rulesIn(text: string): readonly string[] {
  return text.match(/\b[SRBW]\d+\b/g) ?? [];
}

export interface Coverage {
  /** One line for each kind of rule. */
  readonly lines: readonly string[];
  readonly problems: readonly string[];
}

/** Which rules have a test, and what contradicts their state. */
export function coverage(rules: readonly Rule[], tested: ReadonlySet<string>): Coverage {
  const known = new Set(rules.map(rule => rule.number));
  const without = rules.filter(rule => rule.done && !tested.has(rule.number));
  const unknown = [...tested].filter(number => !known.has(number));
  return {
    lines: ['S', 'R', 'B', 'W'].map(kind => countLine(kind, rules, tested)),
    problems: [
      ...without.map(
        rule => `${rule.number} is done in docs/rules.md and no passing test has it in its title`,
      ),
      ...unknown.map(number => `a test names ${number}, and docs/rules.md does not list it`),
    ],
  };
}

function countLine(kind: string, rules: readonly Rule[], tested: ReadonlySet<string>): string {
  const ofKind = rules.filter(rule => rule.number.startsWith(kind));
  const covered = ofKind.filter(rule => tested.has(rule.number)).map(rule => rule.number);
  const done = ofKind.filter(rule => rule.done).length;
  const names = covered.length === 0 ? '' : `: ${covered.join(' ')}`;
  return `${kind}: ${ofKind.length} rules, ${done} done, ${covered.length} with a test${names}`;
}

/** The rules that passing tests name. */
export function testedRules(results: readonly TestResult[]): ReadonlySet<string> {
  return new Set(
    results.filter(result => result.outcome === 'passed').flatMap(result => rulesIn(result.title)),
  );
}
