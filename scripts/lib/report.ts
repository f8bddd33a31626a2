import type { TestResult } from './results.ts';
import type { SuiteRun } from './suites.ts';

/** What went wrong in a run, for a person; undefined when nothing did. */
export function failuresOf(run: SuiteRun): string | undefined {
  const failures = run.results.filter(result => result.outcome === 'failed');
  const texts = failures.map(({ title, message }) => `${title}\n${indent(message)}`);
  if (run.problem !== undefined) texts.push(run.problem);
  return texts.length === 0 ? undefined : texts.join('\n');
}

export function slowest(results: readonly TestResult[], count: number): readonly TestResult[] {
  return results.toSorted((a, b) => b.ms - a.ms).slice(0, count);
}

/** Each with the time of all its tests, hooks not included; that of several engines together. */
export function slowestFiles(
  results: readonly TestResult[],
  count: number,
): readonly (readonly [file: string, ms: number])[] {
  const files = new Map<string, number>();
  for (const { file, ms } of results) files.set(file, (files.get(file) ?? 0) + ms);
  return [...files].sort(([, a], [, b]) => b - a).slice(0, count);
}

/** A time for a person. */
export function duration(ms: number): string {
  const seconds = ms / 1_000;
  return seconds < 60
    ? `${seconds.toFixed(1)} s`
    : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function indent(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}
