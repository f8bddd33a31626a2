import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { nodeBinary, repository } from '../../scripts/lib/paths.ts';
import { run } from '../../scripts/lib/process.ts';
import type { TestResult } from '../../scripts/lib/results.ts';

const suite = `
import { skip } from '${join(repository, 'test/support/skip.ts')}';
describe('all', () => {
  it('passes', () => {});
  it('fails', () => { throw new Error('broken'); });
  it('is skipped', function () { skip(this, 'no reason to stay'); });
  it('is not written yet');
  describe('of one kind', () => {
    before(function () { skip(this, 'engine of sid: gone'); });
    it('cannot run', () => {});
  });
  describe('with a broken hook', () => {
    before(() => { throw new Error('bad hook'); });
    it('never runs', () => {});
  });
});
`;

const interrupted = `
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
describe('all', () => {
  after(() => writeFileSync('cleaned', ''));
  it('is interrupted', async () => {
    const signal = once(process, 'SIGINT');
    process.kill(process.pid, 'SIGINT');
    await signal;
  });
  it('never begins', () => {});
});
`;

describe('the reporter', () => {
  let directory: string;
  let results: readonly TestResult[];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'varve-reporter-'));
    results = await resultsOf('a.test.mts', suite);
  });
  after(() => rmSync(directory, { recursive: true }));

  async function resultsOf(name: string, text: string): Promise<readonly TestResult[]> {
    writeFileSync(join(directory, name), text);
    const output = join(directory, 'results.json');
    const reporter = [
      '--reporter',
      join(repository, 'test/support/reporter.ts'),
      '--reporter-option',
      `output=${output}`,
    ];
    const mocha = join(repository, 'node_modules/mocha/bin/mocha.js');
    await run(nodeBinary, [mocha, '--no-config', ...reporter, join(directory, name)], { cwd: directory });
    return JSON.parse(readFileSync(output, 'utf8')) as TestResult[];
  }

  it('keeps the results of an interrupted run, whose hooks clean up', async () => {
    const kept = await resultsOf('b.test.mts', interrupted);
    expect(kept.map(({ title, outcome }) => `${outcome} ${title}`)).to.deep.equal([
      'passed all is interrupted',
    ]);
    expect(existsSync(join(directory, 'cleaned'))).to.equal(true);
  });

  it('writes down every outcome, also of a hook that fails', () => {
    expect(results.map(({ title, outcome }) => `${outcome} ${title}`)).to.deep.equal([
      'passed all passes',
      'failed all fails',
      'skipped all is skipped',
      'skipped all is not written yet',
      'skipped all of one kind cannot run',
      'failed all with a broken hook "before all" hook for "never runs"',
    ]);
  });

  it('keeps the reason of a skip, of a test or of a whole suite, and the error of a failure', () => {
    const messages = results
      .filter(({ outcome }) => outcome !== 'passed')
      .map(({ message }) => message.split('\n')[0]);
    const reasons = ['no reason to stay', '', 'engine of sid: gone'];
    expect(messages).to.deep.equal(['Error: broken', ...reasons, 'Error: bad hook']);
  });
});
