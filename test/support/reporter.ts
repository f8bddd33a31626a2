import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import Mocha from 'mocha';
import type { TestResult } from '../../scripts/lib/results.ts';
import { skipReason } from './skip.ts';

/**
 * What `scripts/test` runs the suites with: a dot for each test as it ends, and all results as JSON in the file
 * that the reporter option `output` names. The test or hook that runs now is in `FILE.current`. After a SIGINT no
 * other test begins, and the hooks clean up.
 */
export default class Collector extends Mocha.reporters.Base {
  readonly #results: TestResult[] = [];

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const output = (options.reporterOptions as { readonly output?: string } | undefined)?.output;
    if (output === undefined) throw new Error('the reporter needs --reporter-option output=FILE');
    const started = (test: Mocha.Runnable) => writeFileSync(`${output}.current`, test.fullTitle());
    runner.on('test', started).on('hook', started);
    process.once('SIGINT', () => runner.abort());
    runner.on('pass', test => this.#add(test, 'passed', '.'));
    runner.on('fail', (test, error: unknown) => this.#add(test, 'failed', '!', describeError(error)));
    runner.on('pending', test => this.#add(test, 'skipped', '-', skipReason(test)));
    runner.once('end', () => {
      process.stdout.write('\n');
      writeFileSync(output, JSON.stringify(this.#results));
    });
  }

  #add(test: Mocha.Runnable, outcome: TestResult['outcome'], dot: string, message?: string): void {
    process.stdout.write(dot);
    const file = relative(process.cwd(), test.file ?? test.parent?.file ?? '');
    this.#results.push({
      title: test.fullTitle(),
      file,
      outcome,
      message: message ?? '',
      ms: test.duration ?? 0,
    });
  }
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { expected, actual } = error as { readonly expected?: unknown; readonly actual?: unknown };
  const values = expected === undefined ? '' : `\nexpected: ${show(expected)}\nactual:   ${show(actual)}`;
  return `${error.stack ?? error.message}${values}`;
}

function show(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 2_000) ?? String(value);
}
