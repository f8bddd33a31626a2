import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect } from 'chai';
import { engineFiles } from '../../../scripts/lib/engine.ts';
import { mountsBelow } from '../../../scripts/lib/mounts.ts';
import { engineProcesses } from '../../../scripts/lib/remove-engine.ts';
import { startEngine, type TestEngine } from '../../support/engine.ts';

/** All that an engine could leave behind. */
function remains(directory: string): readonly unknown[] {
  const files = engineFiles(directory);
  const processes = ['dockerd', 'containerd', 'containerd-shim'].flatMap(name =>
    engineProcesses(files, name),
  );
  return [...processes, ...mountsBelow(directory), ...(existsSync(directory) ? [directory] : [])];
}

describe('a private engine for tests', function () {
  this.timeout(120_000);
  let engine: TestEngine;
  let directory: string;

  beforeEach(async () => {
    engine = await startEngine({ args: ['--live-restore'] });
    directory = dirname(engine.socket);
  });
  afterEach(() => engine.stop());

  it('runs a container, keeps its data over a restart, and leaves nothing', async () => {
    const echo = await engine.docker('run', '--rm', '--network', 'host', 'busybox', 'echo', 'hello');
    expect(echo).to.deep.equal({ stdout: 'hello\n', stderr: '', exitCode: 0 });
    await engine.docker('volume', 'create', 'kept');
    const before = engine.pid;
    await engine.restart();
    expect(engine.pid).not.to.equal(before);
    expect((await engine.docker('volume', 'ls', '--quiet')).stdout.split('\n')).to.include('kept');
    await engine.stop();
    expect(remains(directory)).to.deep.equal([]);
  });

  it('keeps a container running while dockerd is killed and restarted', async () => {
    await engine.docker(
      'run',
      '--detach',
      '--network',
      'none',
      '--name',
      'sleeper',
      'busybox',
      'sleep',
      '1000',
    );
    const pid = async () => (await engine.docker('inspect', '--format', '{{.State.Pid}}', 'sleeper')).stdout;
    const before = await pid();
    await engine.kill9();
    expect((await engine.docker('ps')).exitCode).to.equal(1);
    await engine.restart();
    expect(await pid()).to.equal(before);
  });

  it('leaves nothing of a container that outlived its dockerd', async () => {
    const started = await engine.docker('run', '--detach', '--network', 'host', 'busybox', 'sleep', '1000');
    const id = started.stdout.trim();
    const inspected = await engine.docker('inspect', '--format', '{{.State.Pid}}', id);
    expect(remains(directory)).to.have.length.greaterThan(3);
    await engine.kill9();
    await engine.stop();
    expect(remains(directory)).to.deep.equal([]);
    expect(existsSync(`/proc/${inspected.stdout.trim()}`)).to.equal(false);
    expect(existsSync(`/sys/fs/cgroup/memory/docker/${id}`)).to.equal(false);
  });

  it('says what dockerd said when it cannot start', async () => {
    const error = await startEngine({ args: ['--storage-driver', 'nonsense'] }).then(() => undefined, String);
    expect(error).to.match(/dockerd ended before it answered; the end of .*\n[\s\S]*nonsense/);
  });
});
