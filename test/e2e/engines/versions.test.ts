import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { callsSince, TestHost } from '../../support/host.ts';
import { untilHolds } from '../../support/writer.ts';

/** Each case says what is right on which engine, as docs/engines.md tells users. */
describe('what engines do differently with a volume', () => {
  let host: TestHost;
  let earlier: Readonly<Record<string, number>>;
  const calls = () => callsSince(host.daemon, earlier);
  const since = (major: number) => host.engine.major >= major;

  before(async () => {
    host = await TestHost.start({ args: ['--live-restore'] });
  });
  after(() => host?.stop());
  beforeEach(() => {
    earlier = host.daemon.calls();
  });
  afterEach(() => host.clear());

  it('S13 a name that is not there: the words differ, the answer does not', async () => {
    const said = await host.refused('volume', 'inspect', 'missing');
    expect(said).to.include(since(26) ? 'get missing: no such volume' : 'No such volume: missing');
  });

  it('S8 an anonymous volume without a driver: before 28 every plugin is asked for its name first', async () => {
    await host.docker('create', '--volume', '/data', 'busybox', 'true');
    expect(calls()['Get'] ?? 0).to.equal(since(28) ? 0 : 1);
    expect(calls()).not.to.have.property('Create');
    const anonymous = await host.docker('volume', 'ls', '--quiet', '--filter', 'driver=local');
    expect(anonymous).to.match(/^[0-9a-f]{64}$/);
  });

  it('S13 a container that lived through a restart of dockerd, and then a docker cp: before 26 its stop brings no Unmount', async () => {
    await host.startContainer('app', ['-v', 'vol:/data', '--volume-driver', host.daemon.driver]);
    await host.engine.restart();
    await host.docker('cp', 'app:/etc/passwd', '-');
    earlier = host.daemon.calls();
    await host.docker('stop', '--time', '0', 'app');
    expect(calls()['Unmount'] ?? 0).to.equal(since(26) ? 1 : 0);
    await until('the volume to be free', 10_000, async () => {
      const { consumers } = await host.volume('vol');
      return consumers.every(({ confirmed }) => !confirmed);
    });
    await host.docker('rm', 'app');
    await host.docker('volume', 'rm', 'vol');
    expect(host.mounts()).to.deep.equal([]);
  });

  it('S13 volume prune takes no volume of a plugin, also with --all', async () => {
    await host.createVolume('vol');
    await host.docker('volume', 'prune', '--force');
    if (since(26)) await host.docker('volume', 'prune', '--force', '--all');
    expect(await host.listed()).to.deep.equal(['vol']);
  });

  it('S7 volume-subpath: a directory of the volume from 26 on, refused before', async () => {
    await host.createVolume('vol');
    await host.run(['--rm', '-v', 'vol:/data'], 'sh', '-c', 'mkdir /data/sub; ln -s ../../.. /data/sub/out');
    const mount = (path: string) => ['--mount', `type=volume,source=vol,target=/data,volume-subpath=${path}`];
    const refusal = (path: string) => host.refused('run', '--network', 'host', ...mount(path), 'busybox');
    if (!since(26)) return expect(await refusal('sub')).to.include("unexpected key 'volume-subpath'");
    await host.startContainer('app', mount('sub'), 'echo inside > /data/file; exec sleep 10000');
    expect((await host.mountOf('app', '/data')).root).to.match(/\/data\/sub$/);
    await untilHolds(join(await host.dataPath('vol'), 'sub/file'), 'inside\n');
    expect(await refusal('missing')).to.match(/no such file or directory/);
    expect(await refusal('sub/out')).to.match(/not a directory|outside|escape|no such file/i);
    expect(await refusal('../..')).to.match(/subpath must be a relative path|outside|invalid/i);

    const { status, body } = await host.daemon.plugin('VolumeDriver.Remove', { Name: 'vol' });
    expect(status).to.equal(500);
    expect(body)
      .to.have.property('Err')
      .that.matches(/volume vol is in use: process \d+ has it mounted on \/data/);
    await host.docker('stop', '--time', '0', 'app');
    await host.docker('rm', 'app');
    expect(host.mounts()).to.deep.equal([]);
    return undefined;
  });

  it('S5 a volume that docker cp reads is in use, though from 26 on only a thread of dockerd has it mounted', async () => {
    await host.createVolume('vol');
    const fill = 'dd if=/dev/zero of=/data/big bs=1M count=64 2>/dev/null';
    await host.run(['--name', 'app', '-v', 'vol:/data'], 'sh', '-c', fill);
    const copying = startCopy();
    try {
      await once(copying.stdout, 'readable');
      expect((await host.volume('vol')).consumers).to.have.length(1);
      await host.daemon.kill9();
      await host.daemon.start();
      const removed = await host.daemon.varve('volume', 'rm', 'vol');
      expect(removed.stderr).to.match(/volume vol is in use: process \d+ has it mounted/);
      expect(removed.exitCode).to.equal(4);
    } finally {
      const isOver = copying.exitCode !== null || copying.signalCode !== null;
      copying.stdout.destroy();
      copying.kill('SIGKILL');
      if (!isOver) await once(copying, 'exit');
    }
    await until('the copy to have ended', 10_000, () => host.mounts().length === 0);
  });

  /** A copy that goes on until somebody reads what it writes. */
  function startCopy(): ChildProcessByStdio<null, Readable, null> {
    const words = ['--host', host.engine.dockerHost, 'cp', 'app:/data/big', '-'];
    return spawn('docker', words, { env: host.engine.environment, stdio: ['ignore', 'pipe', 'ignore'] });
  }
});
