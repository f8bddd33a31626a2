import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';

const library = new URL('../../../src/lib/fault.ts', import.meta.url).href;

/** Two steps, one after the other, and a point where the caller acts. */
const program = `
import { faultPoint, step } from ${JSON.stringify(library)};
const say = text => process.stdout.write(text + ' ');
try {
  await step('one', () => say('one'));
  await step('two', () => say('two'));
  say(faultPoint('call') ?? 'nothing');
} catch (error) { say(error.code + ': ' + error.message); }
`;

describe('fault points', () => {
  let directory: string;
  let file: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'varve-fault-'));
    file = join(directory, 'faults');
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  function run(faults: string | undefined): { readonly output: string; readonly signal: string | null } {
    const { VARVE_FAULTS: _, ...env } = process.env;
    if (faults !== undefined) writeFileSync(file, faults);
    const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
      encoding: 'utf8',
      env: { ...env, ...(faults !== undefined && { VARVE_FAULTS: file }) },
    });
    return { output: stdout.trim(), signal };
  }

  it('do nothing, and write nothing, unless a file is named', () => {
    expect(run(undefined)).to.deep.equal({ output: 'one two nothing', signal: null });
    expect(existsSync(`${file}.hits`)).to.equal(false);
  });

  it('are all written down, in order, before and after each step', () => {
    expect(run('').output).to.equal('one two nothing');
    const hits = readFileSync(`${file}.hits`, 'utf8').trim().split('\n');
    expect(hits).to.deep.equal(['one:before', 'one:after', 'two:before', 'two:after', 'call']);
  });

  it('kill as a crash does, before the step or after it', () => {
    expect(run('two:before kill\n')).to.deep.equal({ output: 'one', signal: 'SIGKILL' });
    expect(run('other error\n two:after kill \n')).to.deep.equal({ output: 'one two', signal: 'SIGKILL' });
  });

  it('throw Internal, and name themselves', () => {
    expect(run('two:before error').output).to.equal('one Internal: fault injected at two:before');
  });

  it('give the caller its part', () => {
    expect(run('call drop').output).to.equal('one two drop');
  });
});
