import { globSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/errors/errors.ts';
import { leftovers, takeSnapshot } from '../test/support/leftovers.ts';
import { check, checks } from './lib/checks.ts';
import { type Lane, laneName, lanes, tryLane } from './lib/lanes.ts';
import { layerTable } from './lib/layer-table.ts';
import { installPackages } from './lib/packages.ts';
import { cacheDirectory, repository } from './lib/paths.ts';
import { signalAll } from './lib/process.ts';
import { duration, failuresOf, indent, slowest, slowestFiles } from './lib/report.ts';
import { badSkips, onEngine, summaryLine, type TestResult } from './lib/results.ts';
import { coverage, parseRules, rulesIn, testedRules } from './lib/rules.ts';
import { runSuite, type SuiteName, suiteNames } from './lib/suites.ts';

const usage = `scripts/test [--only ${suiteNames.join('|')}] [--long] [--ci]

Runs every check and every test, the end-to-end tests on one engine after the other; says at the end 'N passed, N failed, N skipped'.
  --only SUITE  build and run this suite alone
  --long        also the repetitions: hundreds of fuzz seeds, many power cuts
  --ci          a skipped test is a failure, except in the lanes that scripts/lib/results.ts names`;

const packages = [
  ...['docker.io', 'busybox-static', 'fio', 'e2fsprogs', 'xfsprogs', 'btrfs-progs', 'fuse-overlayfs', 'zstd'],
  ...['util-linux', 'mount', 'tar', 'openssl', 'attr', 'procps', 'socat', 'iproute2'],
  ...['podman', 'docker-compose', 'docker-registry', 'debootstrap', 'binutils', 'systemd', 'git'],
];

const problems: string[] = [];
const results: TestResult[] = [];
/** What happened on each engine. */
const engineLines: string[] = [];

/** Runs one step, with its name and time on a line; what it returns or throws fails the run. */
async function step(name: string, act: () => Promise<string | undefined>): Promise<void> {
  const began = performance.now();
  const problem = await act().catch(messageOf);
  console.log(
    `${problem === undefined ? 'ok    ' : 'FAILED'} ${name} (${duration(performance.now() - began)})`,
  );
  if (problem === undefined) return;
  console.log(indent(problem));
  problems.push(name);
}

function interrupt(): void {
  problems.push('interrupted');
}

async function unlessInterrupted(act: () => Promise<void>): Promise<void> {
  if (!problems.includes('interrupted')) await act();
}

async function runTests(name: SuiteName, long: boolean): Promise<string | undefined> {
  const ran = await runSuite(name, long);
  results.push(...ran.results);
  return failuresOf(ran);
}

/** The engine of a lane. Without it the run fails, unless something was skipped for it. */
async function engineOf(lane: Lane): Promise<string | undefined> {
  const outcome = await tryLane(lane);
  if ('engine' in outcome) return outcome.engine;
  const { missing, skipped } = outcome;
  engineLines.push(missing);
  results.push(...skipped);
  if (skipped.length > 0) console.log(missing);
  else await step(laneName(lane), () => Promise.resolve(missing));
  return undefined;
}

async function runOnEngine(lane: Lane, long: boolean): Promise<void> {
  const engine = await engineOf(lane);
  if (engine === undefined) return;
  await step(`e2e tests on ${engine}`, async () => {
    const began = performance.now();
    const ran = await runSuite('e2e', long, lane);
    const own = onEngine(engine, ran.results);
    results.push(...own);
    engineLines.push(`${engine}: ${summaryLine(own)} in ${duration(performance.now() - began)}`);
    return failuresOf({ ...ran, results: own });
  });
}

async function checkRules(only: boolean): Promise<string | undefined> {
  const rules = parseRules(readFileSync(join(repository, 'docs/rules.md'), 'utf8'));
  const tested = only ? rulesInSources() : testedRules(results);
  const { lines, problems: found } = coverage(rules, tested);
  console.log(indent(lines.join('\n')));
  return found.length === 0 ? undefined : found.join('\n');
}

/** What test titles could name, for a run that does not run them all. */
function rulesInSources(): ReadonlySet<string> {
  const files = globSync('test/{integration,crash,e2e,unit}/**/*.test.ts', { cwd: repository });
  return new Set(files.flatMap(file => rulesIn(readFileSync(join(repository, file), 'utf8'))));
}

function printSummary(began: number): void {
  const skipped = results.filter(result => result.outcome === 'skipped');
  for (const { title, message } of skipped) console.log(`skipped: ${title}: ${message || 'no reason given'}`);
  console.log('The slowest tests:');
  for (const { title, ms } of slowest(results, 10)) console.log(`  ${duration(ms)}  ${title}`);
  console.log('The slowest files:');
  for (const [file, ms] of slowestFiles(results, 25)) console.log(`  ${duration(ms)}  ${file}`);
  if (problems.length > 0) console.log(`Failed steps: ${problems.join(', ')}`);
  for (const line of layerTable(results)) console.log(line);
  console.log(`Took ${duration(performance.now() - began)}.`);
  for (const line of engineLines) console.log(line);
  console.log(summaryLine(results));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      long: { type: 'boolean', default: false },
      ci: { type: 'boolean', default: process.env.CI === 'true' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(usage);
  const selected = suiteNames.filter(name => values.only === undefined || values.only === name);
  if (selected.length === 0) throw new Error(`there is no suite ${values.only}\n${usage}`);
  process.env.PATH = [join(repository, 'node_modules/.bin'), process.env.PATH].join(delimiter);
  if (values.long) process.env.VARVE_LONG = '1';
  // Hundreds of daemons are started from the sources.
  process.env.NODE_COMPILE_CACHE ??= join(cacheDirectory, 'compiled');
  // Each lane gets its own.
  delete process.env.VARVE_ENGINE_SUITE;

  // An interrupted suite still cleans up in its hooks.
  process.once('SIGINT', interrupt).once('SIGTERM', () => {
    interrupt();
    signalAll('SIGINT');
  });
  const began = performance.now();
  await step('packages', async () => void (await installPackages(packages)));
  await step('build', () => check('npm', ['run', '--silent', 'build']));
  const before = takeSnapshot();
  const runInTurn = async (names: readonly SuiteName[]) => {
    for (const name of names.filter(candidate => selected.includes(candidate)))
      await unlessInterrupted(() => step(`${name} tests`, () => runTests(name, values.long)));
  };
  const runLanes = async (some: readonly Lane[]) => {
    if (!selected.includes('e2e')) return;
    for (const lane of some) await unlessInterrupted(() => runOnEngine(lane, values.long));
  };
  const runChecks = async () => {
    if (values.only !== undefined) return;
    for (const [name, command, ...args] of checks) await step(name, () => check(command, args));
  };
  // At one time, since they mostly wait: for disks, for engines, for what they have killed.
  await Promise.all([
    runInTurn(['integration']),
    runChecks().then(() => runInTurn(['unit', 'crash'])),
    runLanes(lanes.slice(0, 1)),
    runLanes(lanes.slice(1)),
  ]);
  await step('nothing left behind', async () => listed(leftovers(before)));
  await step('skips', async () => listed(badSkips(results, values.ci)));
  await step('rules with a test', () => checkRules(values.only !== undefined));
  printSummary(began);
  process.exitCode = problems.length === 0 ? 0 : 1;
}

function listed(lines: readonly string[]): string | undefined {
  return lines.length === 0 ? undefined : lines.join('\n');
}

await main().catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
