import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { expect } from 'chai';
import { buildDeb } from '../../scripts/lib/deb.ts';
import { nodeBinary } from '../../scripts/lib/paths.ts';
import { must } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import { parseMountinfo } from '../../src/host/linux/mountinfo.ts';
import { version } from '../../src/lib/version.ts';
import { DebianHost } from '../support/debian-host.ts';

const pluginSocket = '/run/docker/plugins/varve.sock';
const newVersion = '99.0.0-rc.1';

describe('the Debian package', function () {
  this.timeout(240_000);
  let packages: string | undefined;
  let host: DebianHost;
  const givenEpoch = process.env['SOURCE_DATE_EPOCH'];
  const debs = { old: '', new: '' };

  before(async function () {
    // Without a cache debootstrap fetches the packages of the tree first.
    this.timeout(900_000);
    process.env['SOURCE_DATE_EPOCH'] = '1700000000';
    packages = await mkdtemp(join(tmpdir(), 'varve-debs-'));
    host = await DebianHost.make(['systemd', 'libstdc++6', 'e2fsprogs']);
    for (const [name, its] of [['old', version] as const, ['new', newVersion] as const]) {
      const directory = join(packages, name);
      mkdirSync(directory);
      const path = await buildDeb(directory, { version: its, compression: 'none' });
      debs[name] = `/root/${basename(path)}`;
      copyFileSync(path, join(host.tree, debs[name]));
    }
  });
  after(async () => {
    if (givenEpoch === undefined) delete process.env['SOURCE_DATE_EPOCH'];
    else process.env['SOURCE_DATE_EPOCH'] = givenEpoch;
    await host?.dispose();
    if (packages !== undefined) await rm(packages, { recursive: true, force: true });
  });

  it('S14 holds the program and nothing that only its makers need', async () => {
    const { stdout } = await must('dpkg-deb', ['--contents', built('old')]);
    const paths = stdout.split('\n').map(line => line.split(/\s+/)[5] ?? '');
    expect(paths).to.include.members([
      './usr/bin/varve',
      './usr/lib/varve/bin/node',
      './etc/varve/config.yaml',
    ]);
    expect(paths.filter(path => /\.(ts|map|test\.js|deb|gyp|cc|cpp)$/.test(path))).to.deep.equal([]);
    expect(stdout).not.to.match(/^(?!.* root\/root )./m);
  });

  it('S14 is the same byte for byte when it is built again, and the only one in its directory', async () => {
    const again = join(packages ?? '', 'again');
    mkdirSync(again);
    writeFileSync(join(again, 'varve_0.0.1-1_amd64.deb'), 'older');
    const path = await buildDeb(again, { version, compression: 'none' });
    expect(digest(path)).to.equal(digest(built('old')));
    expect(readdirSync(again)).to.deep.equal([basename(path)]);
  });

  const built = (name: 'old' | 'new') => join(packages ?? '', name, basename(debs[name]));
  const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
  /** A call to the plugin by a process that the daemon can see, as it sees an engine: it trusts no other. */
  const plugin = async (method: string, body: object = {}) => {
    const words = [...callerArguments, host.path(pluginSocket), method, JSON.stringify(body)];
    const { exitCode, stdout, stderr } = await host.runAmong(nodeBinary, ...words);
    if (exitCode !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Answer;
  };
  /** The same with the mounts of the host, which the daemon looks at. */
  const inside = async (method: string, body: object) => {
    const words = [...callerArguments, pluginSocket, method, JSON.stringify(body)];
    return JSON.parse(await host.must('/usr/lib/varve/bin/node', ...words)) as Answer;
  };
  const statusOfGet = async () => (await plugin('VolumeDriver.Get', { Name: 'db' })).status;
  const dpkg = (...words: string[]) => host.must('dpkg', '--force-unsafe-io', ...words);
  const show = (unit: string, property: string) =>
    host.must('systemctl', 'show', '--value', '--property', property, unit);
  const signal = (name: string) =>
    host.must('systemctl', 'kill', '--kill-whom=main', `--signal=${name}`, 'varve.service');
  const mounts = () => parseMountinfo(readFileSync(host.path('/proc/1/mountinfo'), 'utf8'));
  const volumeFile = '/var/lib/varve/pools/default/1/data/greeting';

  describe('where systemd does not run', () => {
    afterEach(() => host.stop());

    it('S14 a purge deletes nothing that another daemon has', async () => {
      await host.chroot('dpkg', '--force-unsafe-io', '--install', debs.old);
      await host.start('/usr/bin/sleep', 'infinity');
      const ended = host.run('/usr/bin/varve', 'daemon');
      await until('the socket', 10_000, () => existsSync(host.path(pluginSocket)));
      const said = await dpkg('--purge', 'varve');
      expect(said).to.include('another varve daemon runs on /var/lib/varve');
      expect(said).not.to.include('To delete them');
      expect(existsSync(host.path('/usr/lib/varve')), 'program').to.equal(false);
      expect(existsSync(host.path('/var/lib/varve/state.db')), 'records').to.equal(true);
      expect(readdirSync(host.path('/run/varve'))).not.to.deep.equal([]);
      expect((await plugin('VolumeDriver.List')).body).to.deep.equal({ Volumes: [] });
      await host.stop();
      await ended;
    });

    it('S14 installs, serves at the first request that systemd-socket-activate gets, and is purged', async () => {
      await host.chroot('dpkg', '--force-unsafe-io', '--install', debs.old);
      expect(await host.chroot('varve', '--version')).to.equal(version);
      const name = `--fdname=${unitValue('varve.socket', 'FileDescriptorName')}`;
      // The daemon refuses to be the first process, which in a container sees no others.
      await host.start('/usr/bin/sleep', 'infinity');
      const words = [`--listen=${pluginSocket}`, name, '/usr/bin/varve', 'daemon'];
      const ended = host.run('/usr/bin/systemd-socket-activate', ...words);
      await until('the socket', 10_000, () => existsSync(host.path(pluginSocket)));
      expect((await plugin('Plugin.Activate')).body).to.deep.equal({
        Implements: ['VolumeDriver', 'GraphDriver'],
      });
      expect(await host.must('varve', 'volume', 'ls', '--quiet')).to.equal('');
      await host.stop();
      await ended;
      await host.chroot('dpkg', '--purge', 'varve');
      expect(existsSync(join(host.tree, 'var/lib/varve')), 'records without volumes').to.equal(false);
    });
  });

  describe('on a host with systemd', () => {
    before(() => host.boot());
    after(() => host.stop());

    it('S14 is installed enabled and started, with all that belongs to it', async () => {
      await dpkg('--install', debs.old);
      for (const unit of ['varve.socket', 'varve.service']) {
        expect(await host.must('systemctl', 'is-active', unit), unit).to.equal('active');
        expect(await host.must('systemctl', 'is-enabled', unit), unit).to.equal('enabled');
      }
      expect(await show('varve.service', 'Type')).to.equal('notify');
      expect(await show('varve.service', 'WatchdogUSec')).to.equal('1min');
      expect(statSync(host.path(pluginSocket)).mode & 0o777).to.equal(0o600);
      expect(await host.must('varve', '--version')).to.equal(version);
      expect(await host.must('varve', 'status')).to.include('systemd socket varve');
      await host.must('systemd-analyze', 'verify', '--man=no', 'varve.socket', 'varve.service');
      await host.must('bash', '-n', '/usr/share/bash-completion/completions/varve');
      const docs = readdirSync(host.path('/usr/share/doc/varve'));
      expect(docs).to.include.members(['copyright', 'changelog.Debian.gz', 'THIRD-PARTY-LICENSES.gz']);
      expect(existsSync(host.path('/usr/share/man/man8/varve.8.gz'))).to.equal(true);
    });

    it('S14 the daemon shares the mount namespace of the host, where its mounts are seen', async () => {
      const pid = await show('varve.service', 'MainPID');
      const namespaceOf = (process: string) => readlinkSync(host.path(`/proc/${process}/ns/mnt`));
      expect(namespaceOf(pid)).to.equal(namespaceOf('1'));
      await host.must('varve', 'volume', 'create', 'db');
      host.write(volumeFile, 'kept');
      const { body } = await inside('VolumeDriver.Mount', { Name: 'db', ID: 'a' });
      expect(body).to.deep.equal({ Mountpoint: '/var/lib/varve/mnt/default-1' });
      expect(readFileSync(host.path('/var/lib/varve/mnt/default-1/greeting'), 'utf8')).to.equal('kept');
    });

    it('S14 the daemon sees who uses a volume in another mount namespace', async () => {
      await host.must('varve', 'volume', 'create', 'used');
      await inside('VolumeDriver.Mount', { Name: 'used', ID: 'a' });
      const bind = 'mount --bind /var/lib/varve/mnt/default-2 /mnt && exec sleep infinity';
      const user = ['unshare', '--mount', '--propagation=private', 'sh', '-c', bind];
      await host.must('systemd-run', '--unit=user', ...user);
      const pid = await show('user.service', 'MainPID');
      const name = () => readFileSync(host.path(`/proc/${pid}/comm`), 'utf8');
      await until('the user', 10_000, () => name() === 'sleep\n');
      await inside('VolumeDriver.Unmount', { Name: 'used', ID: 'a' });
      const { exitCode, stderr } = await host.run('varve', 'volume', 'rm', 'used');
      expect(exitCode).not.to.equal(0);
      expect(stderr).to.include(pid);
      await host.must('systemctl', 'stop', 'user.service');
      await host.must('varve', 'volume', 'rm', 'used');
    });

    it('S14 a daemon that dies is started again, while calls wait', async () => {
      const pid = await show('varve.service', 'MainPID');
      await signal('KILL');
      await until('its end', 10_000, () => !existsSync(host.path(`/proc/${pid}`)));
      expect(await statusOfGet()).to.equal(200);
      await host.must('systemctl', 'is-active', 'varve.socket');
      await until('another daemon', 10_000, async () => {
        const now = await show('varve.service', 'MainPID');
        return now !== '0' && now !== pid;
      });
    });

    it('S14 a daemon whose event loop stands still is replaced', async () => {
      await override('[Service]', 'WatchdogSec=5');
      await host.must('systemctl', 'restart', 'varve.service');
      const pid = await show('varve.service', 'MainPID');
      await until('the watchdog to have been fed', 30_000, async () => {
        const [fed, ready] = await Promise.all([
          show('varve.service', 'WatchdogTimestampMonotonic'),
          show('varve.service', 'ActiveEnterTimestampMonotonic'),
        ]);
        return Number(fed) > Number(ready) + 6_000_000;
      });
      expect(await show('varve.service', 'MainPID')).to.equal(pid);
      await signal('STOP');
      await until('the daemon to be replaced', 60_000, async () => {
        const now = await show('varve.service', 'MainPID');
        return now !== '0' && now !== pid && (await show('varve.service', 'ActiveState')) === 'active';
      });
      await override();
    });

    it('S14 an upgrade keeps the socket, the mounts, the data and the settings, and calls wait', async () => {
      const settings = '# ours\nlog:\n  level: debug\n';
      host.write('/etc/varve/config.yaml', settings);
      const socket = statSync(host.path(pluginSocket)).ino;
      let upgraded = false;
      let answered = 0;
      const upgrade = host.run('dpkg', '--force-unsafe-io', '--install', debs.new).finally(() => {
        upgraded = true;
      });
      try {
        while (!upgraded) {
          expect(await statusOfGet()).to.equal(200);
          answered += 1;
        }
      } finally {
        const { exitCode, stderr } = await upgrade;
        expect(exitCode, stderr).to.equal(0);
      }
      expect(answered).to.be.greaterThan(0);
      expect(statSync(host.path(pluginSocket)).ino).to.equal(socket);
      expect(await host.must('varve', '--version')).to.equal(newVersion);
      expect(await host.must('varve', 'status')).to.include(newVersion);
      expect(readFileSync(host.path('/etc/varve/config.yaml'), 'utf8')).to.equal(settings);
      expect(readFileSync(host.path('/var/lib/varve/mnt/default-1/greeting'), 'utf8')).to.equal('kept');
      expect((await inside('VolumeDriver.Unmount', { Name: 'db', ID: 'a' })).body).to.deep.equal({});
      await until('the unmount', 10_000, () => !isMounted());
    });

    it('S14 an engine that starts finds the socket, and neither is touched by a restart of the other', async () => {
      const engine = [
        '[Service]',
        `ExecStartPre=/usr/bin/test -S ${pluginSocket}`,
        'ExecStart=/usr/bin/sleep 600',
      ];
      host.write('/run/systemd/system/docker.service', `${engine.join('\n')}\n`);
      await host.must('systemctl', 'daemon-reload');
      await host.must('systemctl', 'stop', 'varve.socket');
      expect(await show('varve.service', 'ActiveState')).to.equal('inactive');
      expect(existsSync(host.path(pluginSocket))).to.equal(false);
      await host.must('systemctl', 'start', 'docker.service');
      expect((await plugin('VolumeDriver.Get', { Name: 'db' })).status).to.equal(200);
      const pids = () => Promise.all(['varve', 'docker'].map(name => show(`${name}.service`, 'MainPID')));
      const [varve, docker] = await pids();
      await host.must('systemctl', 'restart', 'docker.service');
      const [sameVarve, newDocker] = await pids();
      expect(sameVarve).to.equal(varve);
      expect(newDocker).not.to.equal(docker);
      await host.must('systemctl', 'restart', 'varve.service');
      const [newVarve, sameDocker] = await pids();
      expect(newVarve).not.to.equal(varve);
      expect(sameDocker).to.equal(newDocker);
      await host.must('systemctl', 'stop', 'docker.service');
    });

    it('S14 a daemon that cannot start gives its socket up, so that no engine waits for ever', async () => {
      await override('[Unit]', 'StartLimitBurst=3');
      await host.must('systemctl', 'stop', 'varve.service');
      const settings = readFileSync(host.path('/etc/varve/config.yaml'), 'utf8');
      host.write('/etc/varve/config.yaml', 'rot: /x\n');
      const error = await plugin('Plugin.Activate').then(() => undefined, String);
      expect(error).to.match(/ECONNRESET|socket hang up/);
      await until('the socket to go', 10_000, () => !existsSync(host.path(pluginSocket)));
      host.write('/etc/varve/config.yaml', settings);
      await override();
      await host.must('systemctl', 'reset-failed', 'varve.socket', 'varve.service');
      await host.must('systemctl', 'start', 'varve.service');
      expect((await plugin('VolumeDriver.Get', { Name: 'db' })).status).to.equal(200);
    });

    it('S14 a removal ends the daemon and leaves data, mounts and settings', async () => {
      await inside('VolumeDriver.Mount', { Name: 'db', ID: 'b' });
      const pid = await show('varve.service', 'MainPID');
      await dpkg('--remove', 'varve');
      expect(existsSync(host.path(`/proc/${pid}`))).to.equal(false);
      expect(existsSync(host.path(pluginSocket))).to.equal(false);
      expect(isMounted()).to.equal(true);
      expect(readFileSync(host.path(volumeFile), 'utf8')).to.equal('kept');
      expect(existsSync(host.path('/etc/varve/config.yaml'))).to.equal(true);
    });

    it('S14 a purge removes everything but volumes, and says how they are removed', async () => {
      const said = await dpkg('--purge', 'varve');
      for (const path of ['/etc/varve', '/run/varve', '/var/cache/varve', '/usr/lib/varve'])
        expect(existsSync(host.path(path)), path).to.equal(false);
      expect(readFileSync(host.path(volumeFile), 'utf8')).to.equal('kept');
      expect(isMounted()).to.equal(true);
      expect(said).to.include('the volumes in /var/lib/varve were kept');
    });

    it('S14 a new installation finds the volumes again', async () => {
      await dpkg('--install', debs.new);
      expect(await host.must('varve', 'volume', 'ls', '--quiet')).to.equal('db');
      expect(readFileSync(host.path(volumeFile), 'utf8')).to.equal('kept');
      await inside('VolumeDriver.Mount', { Name: 'db', ID: 'c' });
      expect(readFileSync(host.path('/var/lib/varve/mnt/default-1/greeting'), 'utf8')).to.equal('kept');
    });

    it('S14 what a purge says removes the volumes', async () => {
      const said = await dpkg('--purge', 'varve');
      await host.must('umount', '/var/lib/varve/mnt/default-1');
      const line = /^ {2}(chattr .*)$/m.exec(said)?.[1] ?? 'false';
      await host.must('sh', '-c', line);
      expect(existsSync(host.path('/var/lib/varve'))).to.equal(false);
    });
  });

  const isMounted = () => mounts().some(entry => entry.mountPoint === '/var/lib/varve/mnt/default-1');

  async function override(...lines: readonly string[]): Promise<void> {
    host.write('/run/systemd/system/varve.service.d/test.conf', [...lines, ''].join('\n'));
    await host.must('systemctl', 'daemon-reload');
  }
});

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** A program that makes one call, on a connection of its own, and prints the answer. */
const caller = `import { request } from 'node:http';
const [socketPath, method, body] = process.argv.slice(1);
const call = request({ socketPath, path: '/' + method, method: 'POST', timeout: 30_000 }, async answer => {
  const text = (await answer.toArray()).join('');
  console.log(JSON.stringify({ status: answer.statusCode, body: JSON.parse(text || 'null') }));
});
call.once('timeout', () => call.destroy(new Error(method + ' was not answered'))).end(body);`;
const callerArguments = ['--input-type=module', '--eval', caller];

/** The value of a directive in a unit of ours. */
function unitValue(unit: string, directive: string): string {
  const text = readFileSync(new URL(`../../packaging/systemd/${unit}`, import.meta.url), 'utf8');
  return new RegExp(`^${directive}=(.*)$`, 'm').exec(text)?.[1] ?? '';
}
