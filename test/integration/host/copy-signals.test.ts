import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { Scratch } from '../../support/host-scratch.ts';

describe('a copy under way', () => {
  let scratch: Scratch;
  let copier: ChildProcessByStdio<null, Readable, null>;
  let group: number;
  let cp: number;

  beforeEach(async () => {
    scratch = await Scratch.make();
    // A cp that never ends of itself.
    const programs = await scratch.directory('bin');
    const pidFile = join(scratch.path, 'pid');
    await writeFile(join(programs, 'cp'), `#!/bin/sh\necho $$ > ${pidFile}\nexec sleep 600\n`, {
      mode: 0o755,
    });
    const words = [await scratch.directory('source'), await scratch.directory('target')];
    const program = fileURLToPath(import.meta.resolve('./copier.ts'));
    copier = spawn(process.execPath, [program, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, PATH: `${programs}:${process.env['PATH']}` },
      detached: true,
    });
    group = -(copier.pid ?? Number.NaN);
    const read = () => readFile(pidFile, 'utf8').catch(() => '');
    cp = Number(await until('cp to run', 10_000, async () => (await read()) || undefined));
    await until('cp to have become sleep', 10_000, async () => (await nameOf(cp)) === 'sleep');
  });

  afterEach(async () => {
    try {
      process.kill(group, 'SIGKILL');
    } catch {
      // All of it has ended.
    }
    await scratch.remove();
  });

  it('is Aborted by a signal to the whole process group, for it can be made anew', async () => {
    process.kill(group, 'SIGINT');
    expect(await text(copier.stdout)).to.equal('Aborted');
  });

  it('ends with the process that started it, so that nothing writes into the next one', async () => {
    copier.kill('SIGKILL');
    await once(copier, 'exit');
    await until('cp to end', 5_000, async () => (await nameOf(cp)) !== 'sleep');
  });
});

/** The name of a running program; undefined when it has ended. */
async function nameOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const [, name, state] = /\((.*)\) (\S)/.exec(stat) ?? [];
  return state === 'Z' ? undefined : name;
}
