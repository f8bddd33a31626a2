import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lane } from './lanes.ts';
import { nodeBinary, repository } from './paths.ts';
import { run } from './process.ts';
import type { TestResult } from './results.ts';

export interface Suite {
  readonly files: readonly string[];
  /** Those that run on every engine, and not on the first alone. */
  readonly engineFiles?: readonly string[];
  /** Longest time for one test that does not set its own, in seconds. */
  readonly testSeconds: number;
  /** Longest time for all of it on one engine. */
  readonly minutes: number;
}

/** The same with the repetitions. */
const longMinutes = 360;

const suites = {
  unit: { files: ['test/unit/**/*.test.ts', 'test/tidy/**/*.test.ts'], testSeconds: 20, minutes: 20 },
  integration: { files: ['test/integration/**/*.test.ts'], testSeconds: 30, minutes: 45 },
  crash: { files: ['test/crash/**/*.test.ts'], testSeconds: 120, minutes: 45 },
  e2e: {
    files: ['test/e2e/**/*.test.ts'],
    engineFiles: ['test/e2e/engines/**/*.test.ts'],
    testSeconds: 120,
    minutes: 45,
  },
} as const satisfies Record<string, Suite>;

export type SuiteName = keyof typeof suites;
export const suiteNames = Object.keys(suites) as SuiteName[];
/** Suites that start engines. */
const enginesApart: readonly SuiteName[] = ['crash', 'e2e'];

export interface SuiteRun {
  readonly results: readonly TestResult[];
  /** What went wrong apart from the tests themselves: a file that does not load, a process that never ends. */
  readonly problem: string | undefined;
}

/**
 * Runs one suite in a process of its own, those with engines apart from what other suites do. On a lane other than the
 * first it runs only what runs on every engine. One that takes too long is interrupted, so that its hooks clean up, and
 * killed a minute later.
 */
export async function runSuite(name: SuiteName, long: boolean, lane?: Lane): Promise<SuiteRun> {
  const suite: Suite = suites[name];
  const engineSuite = lane?.suite;
  const files = engineSuite === undefined ? suite.files : (suite.engineFiles ?? []);
  const leftOut = long ? [] : (lane?.leftOut ?? []);
  const scratch = await mkdtemp(join(tmpdir(), 'varve-results-'));
  const output = join(scratch, 'results.json');
  const minutes = long ? longMinutes : suite.minutes;
  let cutAt: string | undefined;
  const interrupt = new AbortController();
  const deadline = setTimeout(() => {
    cutAt = currentTest(output);
    interrupt.abort();
  }, minutes * 60_000);
  try {
    const isApart = enginesApart.includes(name);
    const words = [
      ...[nodeBinary, join(repository, 'node_modules/mocha/bin/mocha.js')],
      ...['--require', support('built')],
      ...(isApart ? ['--require', support('apart')] : []),
      ...mochaArguments(files, leftOut, suite.testSeconds, output),
    ];
    const [program = '', ...args] = isApart ? apart(words) : words;
    const ran = await run(program, args, {
      cwd: repository,
      env: { ...environment(), ...(engineSuite && { VARVE_ENGINE_SUITE: engineSuite }) },
      timeoutMs: (minutes + 1) * 60_000,
      interrupt: interrupt.signal,
      onOutput: text => process.stdout.write(text),
    });
    const text = await readFile(output, 'utf8').catch(() => undefined);
    const results = text === undefined ? [] : (JSON.parse(text) as TestResult[]);
    const failed = results.some(result => result.outcome === 'failed');
    const current = currentTest(output);
    const problem =
      cutAt === undefined
        ? problemOf(ran.exitCode, text !== undefined, failed, current)
        : `took longer than ${minutes} minutes, at: ${cutAt}`;
    return { results, problem };
  } finally {
    clearTimeout(deadline);
    await rm(scratch, { recursive: true, force: true });
  }
}

function support(name: string): string {
  return join(repository, `test/support/${name}.ts`);
}

/** With one thread for files: to wake one of four for each call took a fifth of the processor time of a suite. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', UV_THREADPOOL_SIZE: '1' };
}

/** The test or hook that runs, or ran last. */
function currentTest(output: string): string {
  try {
    return readFileSync(`${output}.current`, 'utf8');
  } catch {
    return 'loading its files';
  }
}

/**
 * The words of a command, in a mount namespace in which engines find no plugins but those that it makes itself: they ask
 * all that they find, wait long for one that was killed, and tests count the questions. What other tests have mounted at
 * that moment is not kept there.
 */
function apart(words: readonly string[]): readonly string[] {
  const script = `for directory in /run/docker/plugins /etc/docker/plugins /usr/lib/docker/plugins; do
    mkdir -p $directory && mount -t tmpfs varve-lane $directory || exit; done
  for point in $(awk '$5 ~ "/varve-" { print $5 }' /proc/self/mountinfo | tac); do umount -l "$point"; done
  exec "$@"`;
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', ...words];
}

function mochaArguments(
  files: readonly string[],
  leftOut: readonly string[],
  testSeconds: number,
  output: string,
): string[] {
  return [
    ...['--reporter', support('reporter'), '--reporter-option', `output=${output}`],
    ...['--timeout', String(testSeconds * 1_000)],
    // Without this mocha would add the files of its configuration.
    ...['--no-config', '--extension', 'ts', '--forbid-only'],
    ...leftOut.flatMap(name => ['--ignore', `test/e2e/engines/${name}.test.ts`]),
    ...files,
  ];
}

function problemOf(
  exitCode: number | null,
  ended: boolean,
  failed: boolean,
  current: string,
): string | undefined {
  if (exitCode === null)
    return ended
      ? 'its tests ended and its process did not: something is still open'
      : `was ended by a signal, at: ${current}`;
  if (!ended) return `did not run to its end; it was at: ${current}`;
  return exitCode !== 0 && !failed
    ? `mocha ended with exit code ${exitCode} though no test failed`
    : undefined;
}
