import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { startDaemon } from '../../support/daemon.ts';
import { callsSince, TestHost } from '../../support/host.ts';

/**
 * The cases of moby's own suite for volume plugins (integration-cli/docker_cli_external_volume_driver_test.go), each
 * under moby's name, with varve in the place of their plugin.
 */
describe("moby's external volume driver cases, on Debian's dockerd", () => {
  let host: TestHost;
  let driver: string;
  let earlier: Readonly<Record<string, number>>;

  /** The plugin calls of this case. */
  const calls = () => callsSince(host.daemon, earlier);

  before(async () => {
    host = await TestHost.start();
    driver = host.daemon.driver;
  });
  after(() => host?.stop());
  beforeEach(() => {
    earlier = host.daemon.calls();
  });
  afterEach(async () => {
    await host.clear();
    const local = await host.docker('volume', 'ls', '--quiet', '--filter', 'driver=local');
    if (local !== '') await host.docker('volume', 'rm', ...local.split('\n'));
  });

  it('S13 TestVolumeCLICreateOptionConflict: a name of another driver is refused, the same driver is fine', async () => {
    await host.docker('volume', 'create', 'test');
    expect(await host.createRefused('test')).to.include('must be unique');
    expect(calls()).not.to.have.property('Create');
    await host.docker('volume', 'create', '--driver', 'local', 'test');
  });

  it('S8 S13 TestExternalVolumeDriverNamed: each call comes once, and the data goes with the volume', async () => {
    const options = ['--rm', '--volume', 'named:/data', '--volume-driver', driver];
    expect(await host.run(options, 'sh', '-c', 'echo hello > /data/x && cat /data/x')).to.equal('hello');
    const data = await host.dataPath('named');
    expect(readFileSync(join(data, 'x'), 'utf8')).to.equal('hello\n');
    await host.docker('volume', 'rm', 'named');
    await until('the data to be gone', 10_000, () => !existsSync(data));
    expect(calls()).to.include({ Create: 1, Remove: 1, Mount: 1, Unmount: 1 });
    expect(host.daemon.calls()).to.include({ Activate: 1 });
  });

  it('S8 TestExternalVolumeDriverUnnamed: an anonymous volume comes and goes with its container', async () => {
    const options = ['--rm', '--volume', '/data', '--volume-driver', driver];
    expect(await host.run(options, 'sh', '-c', 'echo hello > /data/x && cat /data/x')).to.equal('hello');
    expect(calls()).to.include({ Create: 1, Remove: 1, Mount: 1, Unmount: 1 });
    expect(await host.volumes()).to.deep.equal([]);
  });

  it('S9 TestExternalVolumeDriverVolumesFrom: a second container mounts the same volume', async () => {
    await host.run(['--name', 'first', '--volume', '/foo', '--volume-driver', driver], 'touch', '/foo/x');
    expect(await host.run(['--rm', '--volumes-from', 'first'], 'ls', '/foo')).to.equal('x');
    await host.docker('rm', '--force', '--volumes', 'first');
    expect(calls()).to.include({ Create: 1, Remove: 1, Mount: 2, Unmount: 2 });
  });

  it('S8 TestExternalVolumeDriverDeleteContainer: `rm -fv` removes an anonymous volume once', async () => {
    await host.run(['--name', 'first', '--volume', '/foo', '--volume-driver', driver], 'true');
    await host.docker('rm', '--force', '--volumes', 'first');
    expect(calls()).to.include({ Create: 1, Remove: 1, Mount: 1, Unmount: 1 });
    expect(await host.volumes()).to.deep.equal([]);
  });

  it('S12 TestExternalVolumeDriverLookupNotBlocked: a varve that is down does not hold up a local volume', async () => {
    const down = await startDaemon();
    try {
      await down.kill9();
      const waiting = host.engine.docker('volume', 'create', '--driver', down.driver, 'late');
      await untilLogged('Unable to connect to plugin');
      const began = performance.now();
      await host.docker('volume', 'create', 'quick');
      expect(performance.now() - began).to.be.lessThan(5_000);
      await down.start();
      expect(await waiting).to.deep.equal({ stdout: 'late\n', stderr: '', exitCode: 0 });
      await host.docker('volume', 'rm', 'late');
    } finally {
      await down.dispose();
      await forgetPlugins();
    }
  });

  it('S12 TestExternalVolumeDriverRetryNotImmediatelyExists: a varve that starts late is found, each call comes once', async () => {
    const late = await startDaemon({ start: false });
    try {
      const options = ['--rm', '--volume', 'late:/data', '--volume-driver', late.driver];
      const running = host.run(options, 'touch', '/data/x');
      await untilLogged(`Unable to locate plugin: ${late.driver}, retrying in 2s`);
      await late.start();
      await running;
      await host.docker('volume', 'rm', 'late');
      expect(late.calls()).to.include({ Activate: 1, Create: 1, Remove: 1, Mount: 1, Unmount: 1 });
    } finally {
      await late.dispose();
      await forgetPlugins();
    }
  });

  it('S13 TestExternalVolumeDriverBindExternalVolume: a container shows the name and the driver of its volume', async () => {
    await host.createVolume('foo');
    await host.startContainer('testing', ['--volume', 'foo:/bar']);
    const mounts = await host.docker('inspect', '--format', '{{json .Mounts}}', 'testing');
    const [mount, ...others] = JSON.parse(mounts) as Record<string, unknown>[];
    expect(others).to.deep.equal([]);
    expect(mount).to.include({ Type: 'volume', Name: 'foo', Driver: driver, Destination: '/bar' });
  });

  it('S13 TestExternalVolumeDriverList: `volume ls` shows a volume once, for one List', async () => {
    await host.createVolume('abc3');
    const rows = (await host.docker('volume', 'ls')).split('\n').map(row => row.split(/ +/));
    expect(rows.filter(([name]) => name === driver)).to.deep.equal([[driver, 'abc3']]);
    expect(calls()).to.include({ List: 1 });
  });

  it('S13 TestExternalVolumeDriverGet: one Get says that a volume is not there; Status reaches the user', async () => {
    expect(await host.refused('volume', 'inspect', 'dummy')).to.match(/no such volume/i);
    expect(calls()).to.include({ Get: 1 });
    await host.createVolume('test');
    expect((await host.inspectVolume('test')).Status).to.include({ pool: 'default', phase: 'Ready' });
  });

  it('S13 TestExternalVolumeDriverWithDaemonRestart: the driver of a volume is known after a restart', async () => {
    await host.createVolume('abc1');
    await host.engine.restart();
    await host.run(['--name', 'test', '--volume', 'abc1:/foo'], 'true');
    const drivers = await host.docker('inspect', '--format', '{{range .Mounts}}{{.Driver}}{{end}}', 'test');
    expect(drivers).to.equal(driver);
  });

  it('S13 TestExternalVolumeDriverGetEmptyResponse: an empty answer to Get means that there is no such volume', async () => {
    host.daemon.faults({ 'docker.VolumeDriver.Get': 'empty' });
    await host.createVolume('abc2');
    expect(await host.refused('volume', 'inspect', 'abc2')).to.match(/no such volume/i);
    host.daemon.faults({});
    expect((await host.inspectVolume('abc2')).Driver).to.equal(driver);
  });

  it('S13 TestExternalVolumeDriverPathCalls: create and ls never ask for the path', async () => {
    await host.createVolume('test');
    expect(await host.listed()).to.deep.equal(['test']);
    expect(calls()).to.include({ Create: 1, List: 1 });
    expect(calls()).not.to.have.property('Path');
  });

  it('S13 TestExternalVolumeDriverMountID: Mount carries the id that the engine keeps for the mount', async () => {
    await host.startContainer('test', ['--volume', 'identified:/data', '--volume-driver', driver]);
    const [consumer, ...others] = (await host.volume('identified')).consumers;
    expect(others).to.deep.equal([]);
    expect(consumer).to.include({ count: 1, confirmed: true });
    expect(consumer?.mountId).to.match(/^[0-9a-f]{64}$/);
    const id = await host.docker('inspect', '--format', '{{.Id}}', 'test');
    const kept = readFileSync(join(host.engine.dataRoot, 'containers', id, 'config.v2.json'), 'utf8');
    expect(kept).to.include(`"ID":"${consumer?.mountId}"`);
  });

  it('S13 TestExternalVolumeDriverCapabilities: the scope is asked for once and shown', async () => {
    await host.engine.restart();
    const since = host.daemon.calls();
    for (const name of ['test0', 'test1', 'test2']) {
      await host.createVolume(name);
      expect(callsSince(host.daemon, since)).to.include({ Capabilities: 1 });
      expect((await host.inspectVolume(name)).Scope).to.equal('local');
    }
  });

  it('S13 TestExternalVolumeDriverOutOfBandDelete: a volume removed behind the engine can be made anew', async () => {
    await host.createVolume('test');
    expect(await host.refused('volume', 'create', '--driver', 'local', 'test')).to.include('must be unique');
    await removeBehindEngine('test');
    await host.createVolume('test', '--opt', 'mode=0700');
    expect(await host.inspectVolume('test')).to.deep.include({ Driver: driver, Options: { mode: '0700' } });
    await removeBehindEngine('test');
    await host.docker('volume', 'create', '--driver', 'local', 'test');
    const { Driver, Options } = await host.inspectVolume('test');
    expect(Driver).to.equal('local');
    expect(Options ?? {}).to.deep.equal({});
  });

  it('S13 TestExternalVolumeDriverUnmountOnMountFail: no Unmount follows a Mount that failed, and none is missed', async () => {
    await host.createVolume('test');
    host.daemon.faults({ 'publish.mount:before': 'error' });
    for (const options of [[], ['--workdir', '/foo']]) {
      const message = await host.refused(
        'run',
        '--network',
        'none',
        ...options,
        '-v',
        'test:/foo',
        'busybox',
      );
      expect(message).to.include('fault injected at publish.mount:before');
    }
    expect(calls()).to.include({ Mount: 2 }).and.not.to.have.property('Unmount');
    expect(await host.volume('test')).to.deep.include({ consumers: [], mountPoint: '' });
  });

  it('S13 TestExternalVolumeDriverUnmountOnCp: cp mounts and unmounts once more, and the container keeps its volume', async () => {
    await host.createVolume('test');
    await host.startContainer('test', ['--volume', 'test:/foo'], 'touch /test && exec sleep 10000');
    expect(calls()).to.include({ Mount: 1 }).and.not.to.have.property('Unmount');
    await until('the container to have its file', 10_000, async () => {
      const copied = await host.engine.docker('cp', 'test:/test', '-');
      return copied.exitCode === 0;
    });
    const { Mount, Unmount } = calls();
    expect(Mount).to.be.at.least(2);
    expect(Unmount).to.equal((Mount ?? 0) - 1);
    expect((await host.volume('test')).consumers).to.have.length(1);
    await host.sh('test', 'touch /foo/still-there');
    await host.docker('kill', 'test');
    await until('the last Unmount', 10_000, () => calls()['Unmount'] === Mount);
    expect(await host.volume('test')).to.deep.include({ consumers: [], mountPoint: '' });
  });

  async function untilLogged(text: string): Promise<void> {
    await until(`dockerd to log: ${text}`, 20_000, () =>
      readFileSync(host.engine.log, 'utf8').includes(text),
    );
  }

  /** An engine remembers every plugin until it restarts, and looks for one that is gone for 15 s at each question. */
  async function forgetPlugins(): Promise<void> {
    await host.engine.restart();
  }

  async function removeBehindEngine(name: string): Promise<void> {
    expect(await host.daemon.varve('volume', 'rm', name)).to.include({ exitCode: 0, stdout: `${name}\n` });
  }
});
