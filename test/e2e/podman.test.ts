import { lstatSync, readFileSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { mountsBelow } from '../../scripts/lib/mounts.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { volumesOf } from '../support/host.ts';
import { TestPodman } from '../support/podman.ts';
import { isGapless, untilHolds, untilLonger, writer } from '../support/writer.ts';

/** That varve believes in until Podman itself gives it back. */
const podmanId = '2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2';

describe('a volume of varve, as podman users have it', function () {
  this.timeout(60_000);
  let daemon: TestDaemon;
  let podman: TestPodman;

  before(async () => {
    daemon = await startDaemon();
    podman = await TestPodman.start({ [daemon.driver]: daemon.socket });
  });
  after(async () => {
    await podman?.stop();
    await daemon?.dispose();
  });
  afterEach(async () => {
    await podman.removeContainers();
    const names = (await volumes()).map(({ name }) => name);
    for (const name of names) await daemon.varve('volume', 'unprotect', name);
    if (names.length > 0) await podman.must('volume', 'rm', ...names);
    expect(await volumes()).to.deep.equal([]);
    expect(mounts()).to.deep.equal([]);
  });

  const create = (name: string, ...options: readonly string[]) =>
    podman.must('volume', 'create', '--driver', daemon.driver, ...options, name);
  const createRefused = (name: string, ...options: readonly string[]) =>
    podman.refused('volume', 'create', '--driver', daemon.driver, ...options, name);
  const volumes = () => volumesOf(daemon);
  const volume = async (name: string): Promise<VolumeView> => {
    const found = (await volumes()).find(view => view.name === name);
    if (found === undefined) throw new Error(`varve has no volume ${name}`);
    return found;
  };
  const dataPath = async (name: string) => `${daemon.root}/pools/default/${(await volume(name)).number}/data`;
  const counts = async (name: string) => (await volume(name)).consumers.map(({ count }) => count);
  const mounts = () => mountsBelow(daemon.root);
  /** How many uses podman itself counts; it asks for a mount at the first, and gives it back after the last. */
  const countOfPodman = async (name: string) =>
    Number(await podman.must('volume', 'inspect', '--format', '{{.MountCount}}', name));

  describe('volumes', () => {
    it('S13 create, ls, inspect and rm are those of any volume of podman', async () => {
      await create('db', '--label', 'team=storage');
      expect(await podman.must('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')).to.equal(
        `${daemon.driver} db`,
      );
      const [shown] = JSON.parse(await podman.must('volume', 'inspect', 'db')) as Record<string, unknown>[];
      expect(shown).to.include({ Name: 'db', Driver: daemon.driver, Mountpoint: '', MountCount: 0 });
      expect(shown).to.deep.include({ Labels: { team: 'storage' } });
      expect(shown?.['Status']).to.include({ pool: 'default', health: 'ok', limit: 'none' });
      await podman.must('volume', 'rm', 'db');
      expect(await podman.must('volume', 'ls', '--quiet')).to.equal('');
      expect(await volumes()).to.deep.equal([]);
    });

    it('S13 uid, gid and mode are those of the root of the volume, as a container sees it', async () => {
      await create('db', '-o', 'uid=1000', '-o', 'gid=1001', '-o', 'mode=0700');
      const options = ['-v', 'db:/data', '--user', '1000:1001'];
      expect(await podman.inContainer(options, 'touch /data/x && stat -c "%u %g %a" /data')).to.equal(
        '1000 1001 700',
      );
    });

    for (const [title, option, says] of [
      [
        'an unknown option, with the one that was meant',
        'siez=1g',
        /unknown option "siez"; did you mean "size"/,
      ],
      ['a size that the pool cannot enforce', 'size=1g', /cannot enforce a size, so size=1.0 GiB is refused/],
      ['a mode that is none', 'mode=rwx', /mode="rwx"/],
    ] as const) {
      it(`S13 refuses ${title}, in the words of varve, and creates nothing`, async () => {
        expect(await createRefused('db', '-o', option)).to.match(says);
        expect(await podman.must('volume', 'ls', '--quiet')).to.equal('');
        expect(await volumes()).to.deep.equal([]);
      });
    }

    it('S13 podman creates a name once, and takes what another engine made without asking for options', async () => {
      await daemon.plugin('VolumeDriver.Create', { Name: 'db', Opts: { mode: '0711' } });
      await create('db', '-o', 'mode=0700');
      expect((await volume('db')).options).to.deep.equal({ mode: '0711' });
      expect(await podman.inContainer(['-v', 'db:/data'], 'stat -c %a /data')).to.equal('711');
      expect(await createRefused('db')).to.match(/volume with name db already exists/);
    });

    it('S13 prune takes the unused ones of varve as well, and leaves the protected', async () => {
      await create('db');
      await create('ledger', '-o', 'protect=true');
      const { stderr } = await podman.run('volume', 'prune', '--force');
      expect(stderr).to.include('volume ledger is protected; run `varve volume unprotect ledger` first');
      expect((await volumes()).map(({ name }) => name)).to.deep.equal(['ledger']);
      expect(await podman.must('volume', 'ls', '--quiet')).to.equal('ledger');
    });
  });

  describe('containers', () => {
    it('S5 two share it, podman asks for one mount, and the last one gives it back', async () => {
      await create('db');
      const once = 'test -e /data/x || echo 1 > /data/x; exec sleep 10000';
      await podman.startContainer('one', ['-v', 'db:/data'], once);
      await untilHolds(join(await dataPath('db'), 'x'), '1\n');
      await podman.startContainer('two', ['-v', 'db:/data']);
      await podman.must('exec', 'two', 'sh', '-c', 'cat /data/x && echo 2 > /data/y');
      expect(await podman.must('exec', 'one', 'cat', '/data/y')).to.equal('2');
      const consumers = (await volume('db')).consumers.map(({ mountId, count }) => [mountId, count]);
      expect(consumers, 'the id that Podman gives to every mount').to.deep.equal([[podmanId, 1]]);
      expect(await countOfPodman('db')).to.equal(2);
      await podman.must('restart', '--time', '0', 'one');
      await podman.must('rm', '--force', '--time', '0', 'one');
      expect(await podman.must('exec', 'two', 'cat', '/data/x')).to.equal('1');
      expect(await podman.refused('volume', 'rm', 'db')).to.match(/volume is being used/);
      await podman.must('rm', '--force', '--time', '0', 'two');
      expect(mounts()).to.deep.equal([]);
      expect(await counts('db')).to.deep.equal([]);
      expect(await podman.inContainer(['-v', 'db:/data'], 'cat /data/x')).to.equal('1');
    });

    it('S8 --rm takes anonymous volumes along; those and unknown names are of podman itself', async () => {
      await create('db');
      await podman.inContainer(['-v', 'db:/data', '-v', '/anonymous', '-v', 'new:/new'], 'touch /data/x');
      const left = await podman.must('volume', 'ls', '--format', '{{.Driver}} {{.Name}}');
      expect(left.split('\n')).to.deep.equal([`${daemon.driver} db`, 'local new']);
      expect((await volumes()).map(({ name }) => name)).to.deep.equal(['db']);
      await podman.must('volume', 'rm', 'new');
    });

    it('S7 read-only refuses writes of that container', async () => {
      await create('db');
      for (const mount of [
        ['-v', 'db:/data:ro'],
        ['--mount', 'type=volume,source=db,target=/data,ro'],
      ]) {
        const words = ['run', '--rm', '--network', 'none', ...mount, 'busybox', 'touch', '/data/x'];
        expect(await podman.refused(...words)).to.match(/Read-only file system/);
      }
    });

    it('S11 the first use copies the files of the image, with their owners, but not the owner of the root', async () => {
      const script =
        'mkdir /seed && echo image > /seed/file && chown 1000:1001 /seed /seed/file && chmod 750 /seed';
      await podman.must('run', '--name', 'make', '--network', 'none', 'busybox', 'sh', '-c', script);
      await podman.must('commit', '--quiet', 'make', 'seed');
      await create('db');
      await create('bare');
      const mounts = ['-v', 'db:/seed', '-v', 'bare:/seed2:nocopy'];
      expect(await podman.inContainer(mounts, 'cat /seed/file', 'seed')).to.equal('image');
      const data = await dataPath('db');
      expect(lstatSync(join(data, 'file'))).to.include({ uid: 1000, gid: 1001 });
      expect(lstatSync(data)).to.include({ uid: 0, gid: 0, mode: 0o40_755 });
      expect(await podman.inContainer(['-v', 'bare:/seed:nocopy'], 'ls /seed', 'seed')).to.equal('');
    });

    it('S13 cp in both directions leaves the volume of a running container mounted, while it writes', async () => {
      await create('db');
      await podman.startContainer('app', ['-v', 'db:/data'], writer('/data/log'));
      const data = await dataPath('db');
      await untilLonger(join(data, 'log'));
      const before = mounts();
      const file = join(daemon.directory, 'copied');
      await writeFile(file, 'hello\n');
      await podman.must('cp', file, 'app:/data/file');
      // Not what grows meanwhile: podman cp fails when a file gets longer under its hands.
      await podman.must('cp', 'app:/data/file', join(daemon.directory, 'back'));
      for (const copy of [join(data, 'file'), join(daemon.directory, 'back')])
        expect(readFileSync(copy, 'utf8')).to.equal('hello\n');
      expect(mounts()).to.deep.equal(before);
      expect(await counts('db')).to.deep.equal([1]);
      await untilLonger(join(data, 'log'));
      await podman.must('stop', '--time', '0', 'app');
      expect(isGapless(readFileSync(join(data, 'log'), 'utf8'))).to.equal(true);
      expect(await podman.refused('cp', file, 'app:/data/late')).to.match(/volume db is not mounted/);
      expect(await readdir(data)).not.to.include('late');
    });
  });

  describe('who is away', () => {
    it('S13 podman volume unmount takes nothing from a container that writes', async () => {
      await create('db');
      await podman.startContainer('app', ['-v', 'db:/data'], writer('/data/log'));
      const before = mounts();
      await podman.must('volume', 'unmount', 'db');
      expect(mounts()).to.deep.equal(before);
      const log = join(await dataPath('db'), 'log');
      await untilLonger(log);
      await podman.must('rm', '--force', '--time', '0', 'app');
      expect(isGapless(readFileSync(log, 'utf8'))).to.equal(true);
    });

    it('S13 varve is killed and starts again: no write fails, and podman goes on with it', async () => {
      await create('db');
      await podman.startContainer('app', ['-v', 'db:/data'], writer('/data/log'));
      const log = join(await dataPath('db'), 'log');
      const before = mounts();
      await daemon.kill9();
      await untilLonger(log);
      expect(await podman.refused('volume', 'inspect', 'db')).to.match(/volume plugin .* not available/);
      expect(mounts()).to.deep.equal(before);
      await daemon.start();
      expect(mounts()).to.deep.equal(before);
      expect(await counts('db')).to.deep.equal([1]);
      await untilLonger(log);
      await podman.must('stop', '--time', '0', 'app');
      expect(mounts()).to.deep.equal([]);
      expect(await podman.must('logs', 'app')).to.equal('');
      expect(isGapless(readFileSync(log, 'utf8'))).to.equal(true);
    });

    it('S13 a container ends while varve is away: it starts again with its data, and nothing has to stay mounted', async () => {
      await create('db');
      await podman.startContainer('app', ['-v', 'db:/data'], 'echo kept >> /data/x; exec sleep 10000');
      const file = join(await dataPath('db'), 'x');
      await untilHolds(file, 'kept\n');
      await daemon.kill9();
      await podman.run('stop', '--time', '0', 'app');
      await until('the container to end', 10_000, async () => (await podman.must('ps', '--quiet')) === '');
      await daemon.start();
      await podman.must('start', 'app');
      await untilHolds(file, 'kept\nkept\n');
      expect(await podman.must('exec', 'app', 'cat', '/data/x')).to.equal('kept\nkept');
      await podman.must('rm', '--force', '--time', '0', 'app');
      // Podman has not forgotten the use that it could not give back.
      for (let count = await countOfPodman('db'); count > 0; count--) {
        expect(mounts()).to.deep.equal([(await volume('db')).mountPoint]);
        await podman.must('volume', 'unmount', 'db');
      }
      expect(mounts()).to.deep.equal([]);
      expect(await counts('db')).to.deep.equal([]);
    });
  });
});
