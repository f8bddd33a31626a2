import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { Aborted, DeadlineExceeded, FailedPrecondition, Unimplemented } from '../../../src/errors/errors.ts';
import { bootId } from '../../../src/host/linux/boot-id.ts';
import { lockFile } from '../../../src/host/linux/flock.ts';
import { limiter } from '../../../src/host/linux/limiter.ts';
import { probeHost, probePath } from '../../../src/host/linux/probe.ts';
import { run } from '../../../src/host/linux/run.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('run', () => {
  it('gives the exit code, the output and the end of the errors', async () => {
    const script = 'echo out; yes error | head -c 10000 >&2; echo last >&2; exit 3';
    const exit = await run('sh', ['-c', script], { timeout: 5000 });
    expect(exit).to.include({ code: 3, stdout: 'out\n' });
    expect(exit.stderr)
      .to.have.length(4096)
      .and.match(/last\n$/);
  });

  it('passes arguments as they are, in the C locale', async () => {
    const hostile = '$(id); `id` "x" *';
    expect((await run('printf', ['%s', hostile], { timeout: 5000 })).stdout).to.equal(hostile);
    expect((await run('printenv', ['LC_ALL'], { timeout: 5000 })).stdout).to.equal('C\n');
  });

  it('ends a process that takes too long', async () => {
    let started = 0;
    const slow = run('sleep', ['60'], {
      timeout: 100,
      onStart: pid => {
        started = pid;
      },
    });
    expect(await rejection(slow)).to.be.instanceOf(DeadlineExceeded);
    expect(isAlive(started)).to.equal(false);
  });

  it('ends a process when the signal fires, and is done when that is gone', async () => {
    const abort = new AbortController();
    let started = 0;
    const onStart = (pid: number) => {
      started = pid;
      abort.abort();
    };
    const stopped = run('sleep', ['60'], { timeout: 60_000, signal: abort.signal, onStart });
    expect(await rejection(stopped)).to.be.instanceOf(Aborted);
    expect(isAlive(started)).to.equal(false);
  });

  it('says of a program that is missing that it is not installed', async () => {
    expect(await rejection(run('varve-no-such-program', [], { timeout: 1000 }))).to.be.instanceOf(
      Unimplemented,
    );
  });
});

describe('lockFile', () => {
  let scratch: Scratch;
  let path: string;

  beforeEach(async () => {
    scratch = await Scratch.make();
    path = join(scratch.path, 'run/lock');
  });

  afterEach(() => scratch.remove());

  it('is held by one at a time, and names who holds it', async () => {
    const release = await lockFile(path);
    const error = await rejection(lockFile(path));
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect(error.message).to.include(path).and.include(`process ${process.pid}`);
    await release();
    await (await lockFile(path))();
    expect(await readFile(path, 'utf8')).to.equal(`${process.pid}\n`);
  });

  it('is free as soon as its holder is killed', async () => {
    await (await lockFile(path))();
    const child = spawn('flock', ['-x', path, 'sh', '-c', 'echo held; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    await once(child.stdout, 'data');
    expect(await rejection(lockFile(path))).to.be.instanceOf(FailedPrecondition);
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    await once(child, 'close');
    await (await lockFile(path))();
  });
});

describe('limiter', () => {
  it('runs no more than the limit at one time, and everybody in the end, also after failures', async () => {
    const limited = limiter(3);
    let [running, most, ended] = [0, 0, 0];
    const task = (index: number) => async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise(resolve => setImmediate(resolve));
      running -= 1;
      ended += 1;
      if (index % 2 === 0) throw new Error('failed');
    };
    await Promise.allSettled(Array.from({ length: 20 }, (_, index) => limited(task(index))));
    expect({ most, ended, running }).to.deep.equal({ most: 3, ended: 20, running: 0 });
  });
});

describe('bootId', () => {
  it('is the UUID of this boot', async () => {
    expect(await bootId()).to.match(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  });
});

describe('probe', () => {
  it('says of this host what uname and the user say', async () => {
    const facts = probeHost();
    expect(facts.kernel).to.equal((await must('uname', '-r')).trim());
    expect(facts).to.include({ uid: 0, canMount: true, kernelIsEnough: true, tablesReadable: true });
  });

  it('tries a file system and leaves nothing there', async () => {
    const scratch = await Scratch.make();
    const path = await scratch.directory('tmpfs');
    await must('mount', '-t', 'tmpfs', '-o', 'size=1m', 'varve-test', path);
    await must('mount', '--make-shared', path);
    expect(await probePath(path)).to.include({
      fsType: 'tmpfs',
      propagation: 'shared',
      reflink: false,
      totalBytes: 1024 ** 2,
    });
    await must('mount', '--make-private', path);
    expect(await probePath(path)).to.include({ propagation: 'private' });
    expect(await must('ls', '-A', path)).to.equal('');
    await scratch.remove();
  });
});
