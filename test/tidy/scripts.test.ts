import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { parseLine, parseStanza } from '../../scripts/lib/apt-sources.ts';
import { lanes, tryLane } from '../../scripts/lib/lanes.ts';
import { layerTable } from '../../scripts/lib/layer-table.ts';
import { withoutServices } from '../../scripts/lib/packages.ts';
import { repository } from '../../scripts/lib/paths.ts';
import { end, identify, isAlive, isReaped } from '../../scripts/lib/proc.ts';
import { run } from '../../scripts/lib/process.ts';
import { badSkips, onEngine, summaryLine, type TestResult } from '../../scripts/lib/results.ts';
import { coverage, parseRules, rulesIn } from '../../scripts/lib/rules.ts';
import { until } from '../../scripts/lib/wait.ts';
import { leftovers, takeSnapshot } from '../support/leftovers.ts';

const rules = parseRules(
  '| S5 | a volume is shared | Docker | done |\n| R1 | names | kubernetes | open |\n| number | rule | source | state |',
);

describe('the scripts', () => {
  it('a rule is a row of a table with its state', () => {
    expect(rules).to.deep.equal([
      { number: 'S5', done: true },
      { number: 'R1', done: false },
    ]);
  });

  it('a title names rules as whole words', () => {
    expect(rulesIn('S5 and B100: not XS5, S5a or s5')).to.deep.equal(['S5', 'B100']);
  });

  it('a rule that is done and has no test is a problem, as is a number that nobody listed', () => {
    expect(coverage(rules, new Set(['S5', 'R1'])).problems).to.deep.equal([]);
    expect(coverage(rules, new Set(['R1'])).problems.join()).to.match(/^S5 is done/);
    expect(coverage(rules, new Set(['S5', 'S99'])).problems.join()).to.match(/^a test names S99/);
  });

  const skipped = (message: string): TestResult => ({
    ...{ title: 't', file: 'f', outcome: 'skipped', message, ms: 0 },
  });

  it('a title carries its engine, which names no rule', () => {
    const [result] = onEngine('Docker 26.1.5+dfsg1 (trixie)', [{ ...skipped(''), title: 'S5 shared' }]);
    expect(result?.title).to.equal('[Docker 26.1.5+dfsg1 (trixie)] S5 shared');
    expect(rulesIn(result?.title ?? '')).to.deep.equal(['S5']);
  });

  it('a lane that cannot be had is said loudly, and counts as one skipped test when it is an extra', async function () {
    this.timeout(120_000);
    for (const isExtra of [true, false]) {
      const outcome = await tryLane({ suite: 'nonsense', isExtra, leftOut: [] });
      if ('engine' in outcome) throw new Error(`there is ${outcome.engine}`);
      expect(outcome.missing).to.match(/^!!! NOTHING WAS TESTED ON engine of nonsense: \S/);
      const [count, reasons] = isExtra ? [1, [/^engine of nonsense: \S/]] : [0, []];
      expect(summaryLine(outcome.skipped)).to.equal(`0 passed, 0 failed, ${count} skipped`);
      for (const [index, reason] of reasons.entries())
        expect(outcome.skipped[index]?.message).to.match(reason);
    }
  });

  it('in CI only a lane that is an extra may be skipped', () => {
    for (const { suite, isExtra } of lanes)
      expect(badSkips([skipped(`engine of ${suite}: gone`)], true), suite).to.have.lengthOf(isExtra ? 0 : 1);
  });

  it('an engine of which a program is missing is none', async () => {
    const cache = mkdtempSync(join(tmpdir(), 'varve-cache-'));
    try {
      const bin = join(cache, 'varve/engines/trixie/bin');
      mkdirSync(bin, { recursive: true });
      const env = { ...process.env, XDG_CACHE_HOME: cache };
      const path = () => run(join(repository, 'scripts/engines'), ['path', 'trixie'], { env });
      for (const program of ['dockerd', 'containerd']) writeFileSync(join(bin, program), '');
      const { stderr, exitCode } = await path();
      expect(exitCode).to.equal(1);
      expect(stderr).to.match(/^there is no docker of trixie; scripts\/engines fetch trixie/);
      writeFileSync(join(bin, 'docker'), '');
      expect((await path()).stdout).to.equal(`${bin}\n`);
    } finally {
      rmSync(cache, { recursive: true });
    }
  });

  it('a policy for services is gone after an installation, also that of a killed one, but not another', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'varve-policy-'));
    const file = join(directory, 'policy-rc.d');
    try {
      let ours = '';
      await withoutServices(file, async () => {
        ours = readFileSync(file, 'utf8');
      });
      expect(existsSync(file)).to.equal(false);
      writeFileSync(file, ours);
      await withoutServices(file, async () => {
        expect(readFileSync(file, 'utf8')).to.equal(ours);
      });
      expect(existsSync(file)).to.equal(false);
      writeFileSync(file, '#!/bin/sh\nexit 101\n');
      await withoutServices(file, async () => undefined);
      expect(existsSync(file)).to.equal(true);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('the suite of layer stores is told driver by driver and file system by file system', () => {
    const result = (title: string, outcome: TestResult['outcome'] = 'passed') => {
      return { title, file: '', outcome, message: '', ms: 0 };
    };
    const results = [
      result('LayerStore: overlay on xfs snapshots Basic'),
      result('LayerStore: overlay on xfs merge folds', 'failed'),
      result('LayerStore: copy on ext4 snapshots Basic'),
      result('LayerStore: records over a disk in memory'),
      result('Pool: directory'),
    ];
    expect(layerTable(results)).to.deep.equal([
      'LayerStore  ext4        xfs',
      'copy        1 of 1      -',
      'overlay     -           1 of 2',
    ]);
    expect(layerTable(results.slice(3))).to.deep.equal([]);
  });

  it('a skip needs a reason, and in CI an allowed one', () => {
    expect(badSkips([skipped('engine of sid: gone'), skipped('not here')], false)).to.deep.equal([]);
    expect(badSkips([skipped('')], false)).to.have.lengthOf(1);
    expect(badSkips([skipped('engine of sid: gone'), skipped('not here')], true)).to.deep.equal([
      't: not here',
    ]);
  });

  it('both styles of apt sources give the mirror, the suites and the key', () => {
    const stanza = 'Types: deb\n# comment\nURIs: http://mirror/debian\nSuites: one two\nSigned-By: /key.gpg';
    const source = { uris: 'http://mirror/debian', options: ['Signed-By: /key.gpg'] };
    expect(parseStanza(stanza)).to.deep.equal({ ...source, suites: ['one', 'two'] });
    const line = 'deb [arch=amd64 signed-by=/key.gpg] http://mirror/debian one main';
    expect(parseLine(line)).to.deep.equal([{ ...source, suites: ['one'] }]);
    expect(parseLine('# deb http://mirror/debian one main')).to.deep.equal([]);
  });

  it('a process is ended by its pid and start time, and never another one', async () => {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const id = identify(child.pid ?? 0);
    if (id === undefined) throw new Error('sleep did not start');
    await end({ ...id, startTime: '1' }, 1_000);
    expect(isAlive(id)).to.equal(true);
    expect(await end(id, 5_000)).to.equal('terminated');
    await until('sleep to be reaped', 5_000, () => isReaped(id));
  });

  it('a program that has ended is not waited for because of what it started', async () => {
    const ended = await run('sh', ['-c', 'sleep 1000 & echo $!'], { timeoutMs: 10_000 });
    const left = identify(Number(ended.stdout));
    expect(ended.exitCode).to.equal(0);
    if (left === undefined) throw new Error('nothing was left running');
    await end(left, 5_000);
  });

  it('a wait that is in vain names what was waited for', async () => {
    const error = await until('the moon', 30, () => false).then(() => undefined, String);
    expect(error).to.match(/the moon/);
  });

  it('what a test leaves is found: a directory, and a process that works there', () => {
    const before = takeSnapshot();
    const directory = mkdtempSync(join(tmpdir(), 'varve-leftover-'));
    const child = spawn('sleep', ['1000'], { cwd: directory, stdio: 'ignore' });
    try {
      const left = leftovers(before).map(line => line.replace(/\d+ /, ''));
      expect(left).to.include.members([`file ${directory}`, 'process sleep 1000']);
    } finally {
      child.kill('SIGKILL');
      rmSync(directory, { recursive: true });
    }
  });

  it('`up --env` without `up` prints what fails when it is evaluated', async () => {
    const copy = mkdtempSync(join(tmpdir(), 'varve-scripts-'));
    try {
      mkdirSync(join(copy, 'node_modules'));
      await run('cp', ['-a', join(repository, 'scripts'), copy]);
      const { stdout, stderr, exitCode } = await run(join(copy, 'scripts/up'), ['--env'], { cwd: '/' });
      expect({ stdout, exitCode }).to.deep.equal({ stdout: 'false\n', exitCode: 1 });
      expect(stderr).to.match(/run scripts\/up first/);
    } finally {
      rmSync(copy, { recursive: true });
    }
  });
});
