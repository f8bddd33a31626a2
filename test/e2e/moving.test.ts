import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { Cleanup } from '../../src/lib/cleanup.ts';
import { docker, inContainer, refused, startContainer } from '../support/containers.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { PluginHost } from '../support/managed-plugin.ts';
import { buildPlugin } from '../support/plugin-script.ts';
import { isGapless, writer } from '../support/writer.ts';

/** What docs/upgrade.md says of moving, with these names in place of `varve`. */
describe('moving from the managed plugin to a daemon of the host, and back', function () {
  this.timeout(120_000);
  const alias = `vmove${process.pid}`;
  const hostDriver = `${alias}h`;
  const hostSocket = `/run/docker/plugins/${hostDriver}.sock`;
  const spec = `/etc/docker/plugins/${alias}:latest.spec`;
  const cleanup = new Cleanup();
  const removeFiles = (...paths: readonly string[]) =>
    cleanup.defer(() => {
      for (const path of paths) rmSync(path, { recursive: true, force: true });
    });
  let host: PluginHost;
  let daemon: TestDaemon;

  before(async function () {
    this.timeout(900_000);
    host = await PluginHost.start([]);
    cleanup.defer(() => host.stop());
    removeFiles(spec, hostSocket, `${hostSocket.slice(0, -1)}~`);
    const config = { root: join(host.data, 'varve'), drivers: { varve: { socket: hostSocket } } };
    daemon = await startDaemon({ start: false, config });
    cleanup.defer(() => daemon.dispose());
    await buildPlugin(host.engine);
    await host.push('test');
    await install();
  });

  after(() => cleanup.close());

  const inEngine = (...words: readonly string[]) => docker(host.engine, ...words);

  async function install(): Promise<void> {
    const options = ['--alias', alias, '--grant-all-permissions', host.reference('test')];
    const { exitCode, stderr } = await host.engine.docker(
      ...['plugin', 'install', ...options, `data.source=${host.data}`],
    );
    // It is there also when it cannot be enabled.
    const id = await inEngine('plugin', 'inspect', '--format', '{{.Id}}', alias);
    removeFiles(`/run/docker/plugins/${id}`);
    cleanup.defer(async () => {
      await host.engine.docker('rm', '--force', 'app');
      await host.engine.docker('plugin', 'rm', '--force', alias);
    });
    expect(exitCode, stderr).to.equal(0);
  }

  async function untilLonger(path: string): Promise<void> {
    const length = readFileSync(path).length;
    await until(`${path} to grow`, 20_000, () => readFileSync(path).length > length);
  }

  it('the plugin to the host: volumes and labels stay, and containers run on, start again, and are made anew', async () => {
    await inEngine('volume', 'create', '--driver', alias, '--label', 'of=plugin', 'kept');
    const use = ['--volume', 'kept:/data', '--volume-driver', alias];
    await startContainer(host.engine, ['--name', 'app', ...use], writer('/data/log'));
    const log = join(await host.dataPath('kept'), 'log');
    await untilLonger(log);

    await inEngine('plugin', 'disable', '--force', alias);
    await inEngine('plugin', 'rm', '--force', alias);
    mkdirSync(dirname(spec), { recursive: true });
    writeFileSync(spec, `unix://${hostSocket}\n`);
    await daemon.start();

    await untilLonger(log);
    expect(readFileSync(log, 'utf8').replace(/[^\n]*$/, '')).to.satisfy(isGapless);
    const format = '{{.Driver}} {{json .Labels}}';
    const shown = await inEngine('volume', 'inspect', '--format', format, 'kept');
    expect(shown).to.equal(`${alias}:latest {"of":"plugin"}`);
    await inEngine('restart', 'app');
    await untilLonger(log);
    await inEngine('volume', 'create', '--driver', hostDriver, 'new');
    await inContainer(host.engine, ['-v', 'kept:/data', '-v', 'new:/new'], 'head -n 1 /data/log > /new/file');
    expect((await daemon.varve('volume', 'ls', '-q')).stdout).to.equal('kept\nnew\n');
  });

  it('the host to the plugin: protected volumes stay when the engine is made to forget them', async () => {
    await inEngine('rm', '--force', 'app');
    for (const name of ['kept', 'new']) {
      expect(await daemon.varve('volume', 'protect', name)).to.include({ exitCode: 0 });
      expect(await refused(host.engine, 'volume', 'rm', '--force', name)).to.include('is protected');
    }
    expect((await inEngine('volume', 'ls', '--quiet')).split('\n')).to.include.members(['kept', 'new']);
    await daemon.stop();
    rmSync(spec);
    await host.engine.restart();
    await install();

    const listed = await inEngine('volume', 'ls', '--quiet', '--filter', `driver=${alias}:latest`);
    expect(listed.split('\n').sort()).to.deep.equal(['kept', 'new']);
    for (const name of ['kept', 'new'])
      expect(await host.varve('volume', 'unprotect', name)).to.include({ exitCode: 0 });
    const use = ['-v', 'kept:/data', '-v', 'new:/new', '--volume-driver', alias];
    expect(await inContainer(host.engine, use, 'head -n 1 /data/log; cat /new/file')).to.equal('1\n1');
    await inEngine('volume', 'rm', 'kept', 'new');
    expect((await host.varve('volume', 'ls', '-q')).stdout).to.equal('');
  });
});
