import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { allPids, commandLine } from '../../../scripts/lib/proc.ts';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { parseMountinfo, readMountinfo } from '../../../src/host/linux/mountinfo.ts';
import { docker, inContainer, refused, startContainer } from '../../support/containers.ts';
import { startDaemon } from '../../support/daemon.ts';
import { PluginHost } from '../../support/managed-plugin.ts';
import { buildPlugin } from '../../support/plugin-script.ts';
import { isGapless, pause, pausing, untilLonger, writer } from '../../support/writer.ts';

/** Goes on where an earlier run of the same container has stopped. */
const counter = (file: string) =>
  `touch ${file}; ${pausing}; n=$(wc -l < ${file}); while :; do n=$((n+1)); echo $n >> ${file} || exit 3; ${pause(0.005)}; done`;

describe('a managed plugin', function () {
  this.timeout(60_000);
  const engineArguments: string[] = [];
  let host: PluginHost;

  before(async function () {
    this.timeout(900_000);
    host = await PluginHost.start(engineArguments);
    await buildPlugin(host.engine);
    await host.push('test');
    await host.tag('test', 'next');
    // A disk of its own for what varve keeps.
    mkdirSync(join(host.data, 'varve'));
    await must('mount', ['-t', 'tmpfs', 'varve-disk', join(host.data, 'varve')]);
  });
  after(() => host?.stop());

  const use = (volume: string, path = '/data') => ['-v', `${volume}:${path}`, '--volume-driver', host.driver];
  const create = (name: string, ...options: readonly string[]) =>
    docker(host.engine, 'volume', 'create', '--driver', host.driver, ...options, name);
  const install = () => host.install('test', 'VARVE_DEBUG=true');

  /** Every mount of a volume is there once: none on top of another, none on a directory of a plugin that is gone. */
  async function expectMountedOnce(): Promise<void> {
    const mounts = host.volumeMounts();
    const points = new Map(mounts.map(({ id, mountPoint }) => [id, mountPoint]));
    const propagated = join(host.engine.dataRoot, 'plugins', await host.id(), 'propagated-mount');
    for (const { parent, mountPoint } of mounts) {
      expect(points.get(parent), 'a mount on top of another').not.to.equal(mountPoint);
      expect(mountPoint.startsWith(`${propagated}/`), mountPoint).to.equal(true);
    }
    const places = mounts.map(({ parent, mountPoint }) => `${parent} ${mountPoint}`);
    expect(new Set(places).size).to.equal(places.length);
  }

  it('S14 is installed from a registry under an alias, with settings, and answers at once', async () => {
    await install();
    const shown = await docker(host.engine, 'plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}');
    expect(shown).to.equal(`${host.driver}:latest true`);
    expect(await create('kept')).to.equal('kept');
    await inContainer(host.engine, use('kept'), 'echo kept > /data/file');
    expect(readFileSync(join(await host.dataPath('kept'), 'file'), 'utf8')).to.equal('kept\n');
  });

  it('S14 under its alias takes options, and an empty one as not given', async () => {
    await create('options', '-o', 'uid=1000', '-o', 'gid=', '-o', 'mode=0750');
    const shown = await inContainer(host.engine, use('options'), 'stat -c "%u %g %a" /data');
    expect(shown).to.equal('1000 0 750');
  });

  it('S14 refuses what it cannot honour: paths of the host, and the options of network storage', async () => {
    const volume = ['volume', 'create', '--driver', host.driver];
    const path = await refused(host.engine, ...volume, '-o', 'from-path=/etc', 'path');
    expect(path).to.match(/from-path=\/etc names a directory of the host, which a managed plugin cannot see/);
    const network = await refused(host.engine, ...volume, '-o', 'type=nfs', '-o', 'device=:/x', 'network');
    expect(network).to.match(/unknown option "(device|type)"\. The options are: uid, /);
    expect(await docker(host.engine, 'volume', 'ls', '--quiet')).not.to.match(/^(path|network)$/m);
  });

  it('S14 is found by the varve command of the host, which sees the same volumes', async () => {
    expect(existsSync(join(host.data, 'varve/run/varve.sock'))).to.equal(true);
    expect((await host.varve('volume', 'ls')).stdout)
      .to.match(/^kept /m)
      .and.to.match(/^options /m);
    expect((await host.varve('status')).stdout).to.match(/^Root +\/var\/lib\/varve$/m);
  });

  it('S14 the image of the plugin runs as a container, too', async () => {
    const shown = await docker(host.engine, 'run', '--rm', '--network', 'host', 'varve:test', '--version');
    expect(shown).to.match(/^\d+\.\d+\.\d+$/);
  });

  it('S5 keeps its data on a disk that is mounted below its directory, and holds no disk that the host lets go', async () => {
    expect(existsSync(join(host.data, 'varve/state.db'))).to.equal(true);
    const seen = async (path: string) =>
      parseMountinfo(readMountinfo(await host.pid())).filter(({ mountPoint }) => mountPoint === path);
    expect((await seen('/var/lib/varve')).map(({ source }) => source)).to.deep.equal(['varve-disk']);
    const other = join(host.data, 'other');
    mkdirSync(other);
    await must('mount', ['-t', 'tmpfs', 'other-disk', other]);
    expect(await seen('/var/lib/other')).to.have.length(1);
    await must('umount', [other]);
    expect(await seen('/var/lib/other')).to.deep.equal([]);
  });

  describe('without --live-restore', () => {
    const log = async () => join(await host.dataPath('ongoing'), 'log');

    /**
     * When dockerd hears of the end of the old plugin after it has started the new one, it takes the new one's mounts
     * from it: varve then refuses to mount, and the plugin has to be started anew.
     */
    async function startAgainIfUnseen(): Promise<void> {
      const error = await docker(host.engine, 'inspect', '--format', '{{.State.Error}}', 'ongoing');
      if (!error.includes('does not see mounts')) return;
      await docker(host.engine, 'plugin', 'disable', '--force', host.driver);
      await docker(host.engine, 'plugin', 'enable', host.driver);
      await docker(host.engine, 'start', 'ongoing');
    }

    it('S5 comes back with its volumes when dockerd restarts, before the containers that use them', async () => {
      await create('ongoing');
      const options = ['--name', 'ongoing', '--restart', 'always', ...use('ongoing')];
      await startContainer(host.engine, options, counter('/data/log'));
      await untilLonger(await log());
      await host.engine.restart();
      await untilLonger(await log());
      await expectMountedOnce();
    });

    it('S5 comes back with its volumes when dockerd is killed', async () => {
      await host.engine.kill9();
      await host.engine.restart();
      await startAgainIfUnseen();
      await untilLonger(await log());
      await expectMountedOnce();
      await docker(host.engine, 'rm', '--force', 'ongoing');
      expect(readFileSync(await log(), 'utf8')).to.satisfy(isGapless);
    });

    it('S13 lets go of what a killed dockerd never gave back when the volume is removed', async () => {
      const { consumers } = await host.volume('ongoing');
      expect(consumers.map(({ confirmed }) => confirmed)).to.deep.equal([false]);
      await docker(host.engine, 'volume', 'rm', 'ongoing');
      expect(host.volumeMounts()).to.deep.equal([]);
    });
  });

  describe('under two containers that write', () => {
    const names = ['one', 'two'];
    const logs: string[] = [];
    const pidsOf = () => docker(host.engine, 'inspect', '--format', '{{.State.Pid}}', ...names);
    let pids = '';

    before(async () => {
      engineArguments.push('--live-restore');
      await host.engine.restart();
      await create('shared');
      for (const name of names) {
        await startContainer(host.engine, ['--name', name, ...use('shared')], writer(`/data/${name}`));
        logs.push(join(await host.dataPath('shared'), name));
      }
      await Promise.all(logs.map(untilLonger));
      pids = await pidsOf();
    });

    /** Afterwards both containers go on, nothing is lost, and a further container can use the volumes. */
    async function expectUndisturbed(): Promise<void> {
      await Promise.all(logs.map(untilLonger));
      expect(await pidsOf()).to.equal(pids);
      for (const name of names) expect(await docker(host.engine, 'logs', name)).to.equal('');
      for (const log of logs) expect(readFileSync(log, 'utf8').replace(/[^\n]*$/, '')).to.satisfy(isGapless);
      const script = 'cat /data/file; tail -n 1 /shared/one | grep -q . && echo both';
      const shown = await inContainer(host.engine, [...use('kept'), ...use('shared', '/shared')], script);
      expect(shown).to.equal('kept\nboth');
      await expectMountedOnce();
    }

    it('S13 shows each volume at one place below the propagated mount of the plugin', async () => {
      await expectUndisturbed();
      const { mountPoint: inside, number } = await host.volume('shared');
      expect(inside).to.equal(`/mnt/default-${number}`);
      const propagated = join(host.engine.dataRoot, 'plugins', await host.id(), 'propagated-mount');
      const mounted = host.volumeMounts().filter(({ root }) => root.endsWith(`/default/${number}/data`));
      const points = mounted.map(({ mountPoint }) => mountPoint);
      expect([...new Set(points)]).to.deep.equal([join(propagated, `default-${number}`)]);
    });

    it('S14 lives through disable --force and enable', async () => {
      const said = await refused(host.engine, 'plugin', 'disable', host.driver);
      expect(said).to.include('is in use');
      await docker(host.engine, 'plugin', 'disable', '--force', host.driver);
      expect(host.volumeMounts()).to.deep.equal([]);
      await docker(host.engine, 'plugin', 'enable', host.driver);
      await expectUndisturbed();
    });

    it('S14 lives through an upgrade', async () => {
      await docker(host.engine, 'plugin', 'disable', '--force', host.driver);
      const words = ['--skip-remote-check', '--grant-all-permissions', host.driver, host.reference('next')];
      await docker(host.engine, 'plugin', 'upgrade', ...words);
      // The engine goes on showing this setting, and has forgotten it.
      await docker(host.engine, 'plugin', 'set', host.driver, `data.source=${host.data}`);
      await docker(host.engine, 'plugin', 'enable', host.driver);
      const reference = ['plugin', 'inspect', '--format', '{{.PluginReference}}', host.driver];
      expect(await docker(host.engine, ...reference)).to.equal(host.reference('next'));
      await expectUndisturbed();
    });

    it('S14 does not start on another, empty root, as after an upgrade that has lost its setting', async () => {
      const empty = join(host.data, 'empty');
      mkdirSync(empty);
      await docker(host.engine, 'plugin', 'disable', '--force', host.driver);
      await docker(host.engine, 'plugin', 'set', host.driver, `data.source=${empty}`);
      await refused(host.engine, 'plugin', 'enable', host.driver);
      expect(host.log()).to.include('docker plugin set NAME data.source=PATH');
      await docker(host.engine, 'plugin', 'set', host.driver, `data.source=${host.data}`);
      await docker(host.engine, 'plugin', 'enable', host.driver);
      await expectUndisturbed();
    });

    it('S14 lives through its removal and a new installation', async () => {
      const old = join(host.engine.dataRoot, 'plugins', await host.id());
      await host.remove();
      expect(existsSync(old)).to.equal(false);
      await install();
      await expectUndisturbed();
    });

    it('S14 lives through the death of its own process, which the engine starts again', async () => {
      const killed = await host.pid();
      process.kill(killed, 'SIGKILL');
      await until('another process of the plugin', 20_000, async () => {
        const pid = await host.pid();
        return !Number.isNaN(pid) && pid !== killed;
      });
      await expectUndisturbed();
    });

    it('S14 lives on through a restart and the death of dockerd, with --live-restore', async () => {
      const pid = await host.pid();
      await host.engine.restart();
      await expectUndisturbed();
      await host.engine.kill9();
      await host.engine.restart();
      await expectUndisturbed();
      expect(await host.pid()).to.equal(pid);
    });

    it('S12 is waited for when it is late: the engine tries again every 3 s', async () => {
      const id = await host.id();
      await docker(host.engine, 'plugin', 'disable', '--force', host.driver);
      let isEnabled = false;
      const enable = async () => {
        await docker(host.engine, 'plugin', 'enable', host.driver);
        isEnabled = true;
      };
      let began = 0;
      const holdUp = async () => {
        const find = () => allPids().find(candidate => isPlugin(candidate, id));
        const pid = await until('the process of the plugin', 20_000, find);
        began = performance.now();
        process.kill(pid, 'SIGSTOP');
        try {
          // The engine looks for the socket half a second after its start, and tells nobody.
          await until('the first look to be over', 10_000, () => performance.now() - began > 1_500);
          expect(isEnabled, 'enabled while it stood still').to.equal(false);
        } finally {
          process.kill(pid, 'SIGCONT');
        }
      };
      await Promise.all([enable(), holdUp()]);
      // No limit that a busy machine can miss: the engine itself sleeps that long after a look in vain.
      expect(performance.now() - began).to.be.above(3_000);
      await expectUndisturbed();
    });

    it('S12 serves beside another driver, and each shows its own volumes', async () => {
      const daemon = await startDaemon();
      try {
        await docker(host.engine, 'volume', 'create', '--driver', daemon.driver, 'foreign');
        const both = ['-v', 'kept:/data', '-v', 'foreign:/foreign'];
        await inContainer(host.engine, both, 'cp /data/file /foreign/copy');
        expect((await host.varve('volume', 'ls')).stdout).not.to.match(/^foreign /m);
        expect((await daemon.varve('volume', 'ls')).stdout)
          .to.match(/^foreign /m)
          .and.not.to.match(/^kept /m);
        const list = ['volume', 'ls', '--quiet', '--filter', `driver=${host.driver}:latest`];
        const shown = (await docker(host.engine, ...list)).split('\n').sort();
        expect(shown).to.deep.equal(['kept', 'options', 'shared']);
        await docker(host.engine, 'volume', 'rm', 'foreign');
      } finally {
        await daemon.dispose();
      }
      await expectUndisturbed();
    });

    after(async () => {
      await docker(host.engine, 'rm', '--force', ...names);
    });
  });

  describe('in the end', () => {
    it('S13 leaves nothing mounted, and no consumer', async () => {
      expect(host.volumeMounts()).to.deep.equal([]);
      const volumes = await Promise.all(['kept', 'shared'].map(name => host.volume(name)));
      expect(volumes.map(({ consumers }) => consumers)).to.deep.equal([[], []]);
    });

    it('S12 never got Plugin.Activate', () => {
      const requests = host.log().match(/\b(?:VolumeDriver|Plugin)\.\w+\b/g);
      expect(requests).to.include('VolumeDriver.Mount').and.not.to.include('Plugin.Activate');
    });

    it('S14 can be removed for good; its data stays', async () => {
      const plugins = join(host.engine.dataRoot, 'plugins');
      const id = await host.id();
      const data = await host.dataPath('kept');
      await docker(host.engine, 'volume', 'rm', 'shared');
      await docker(host.engine, 'plugin', 'disable', '--force', host.driver);
      const left = readdirSync(join(plugins, id, 'propagated-mount'), { recursive: true });
      expect(left, 'empty mount points').to.satisfy((names: string[]) =>
        names.every(name => /^default-\d+$/.test(name)),
      );
      expect(await refused(host.engine, 'plugin', 'rm', host.driver)).to.include('is in use');
      await docker(host.engine, 'plugin', 'rm', '--force', host.driver);
      expect(existsSync(join(plugins, id))).to.equal(false);
      expect(readFileSync(join(data, 'file'), 'utf8')).to.equal('kept\n');
    });
  });
});

/** Whether a process is that of a plugin, which runs in a control group with the plugin's id. */
function isPlugin(pid: number, id: string): boolean {
  if (commandLine(pid)[1] !== '/usr/lib/varve/dist/cli/varve.js') return false;
  return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(id);
}
