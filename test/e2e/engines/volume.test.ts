import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { TestHost } from '../../support/host.ts';
import { importImage } from '../../support/image.ts';
import { isGapless, writer } from '../../support/writer.ts';

describe('a volume of varve, as docker users have it', () => {
  let host: TestHost;
  let driver: string;

  before(async () => {
    host = await TestHost.start({ asksEngine: true });
    driver = host.daemon.driver;
  });
  after(() => host?.stop());
  afterEach(() => host.clear());

  describe('shared and reused', () => {
    it('S5 two containers share it, directly and not through layers, and it lives on without them', async () => {
      await host.createVolume('vol');
      await host.startContainer('one', ['-v', 'vol:/var'], writer('/var/log'));
      await host.startContainer('two', ['-v', 'vol:/var']);
      await until('the second to see lines of the first', 10_000, async () => {
        return (await host.sh('two', 'cat /var/log || true')).split('\n').length > 3;
      });
      await host.sh('two', 'echo hello > /var/from-two');
      expect(await host.sh('one', 'cat /var/from-two')).to.equal('hello');

      const data = await host.dataPath('vol');
      const layer = await host.mountOf('one', '/');
      for (const container of ['one', 'two']) {
        const mount = await host.mountOf(container, '/var');
        expect(layer.fsType).to.equal('overlay');
        expect(mount.fsType).not.to.equal('overlay');
        expect(data.endsWith(mount.root)).to.equal(true);
        expect(await host.docker('diff', container)).to.equal('');
      }
      await host.docker('rm', '--force', 'one', 'two');
      expect(host.mounts()).to.deep.equal([]);
      expect(isGapless(readFileSync(join(data, 'log'), 'utf8'))).to.equal(true);
      expect(await host.run(['--rm', '-v', 'vol:/var'], 'cat', '/var/from-two')).to.equal('hello');
    });

    it('S5 its consumers are its containers, each with its own mount id', async () => {
      await host.createVolume('vol');
      for (const name of ['one', 'two']) await host.startContainer(name, ['-v', 'vol:/data']);
      const { consumers } = await host.volume('vol');
      expect(consumers.map(({ count }) => count)).to.deep.equal([1, 1]);
      await host.docker('rm', '--force', 'one');
      const [left, ...others] = (await host.volume('vol')).consumers;
      expect(others).to.deep.equal([]);
      expect(consumers.map(({ mountId }) => mountId)).to.include(left?.mountId);
      await host.sh('two', 'touch /data/x');
    });

    it('S9 --volumes-from gives the volumes of another container, and the own ones besides', async () => {
      await host.startContainer('one', ['-v', 'vol:/data', '-v', '/anonymous', '--volume-driver', driver]);
      await host.sh('one', 'echo 1 > /data/x && echo 2 > /anonymous/y');
      const options = ['--rm', '--volumes-from', 'one', '-v', 'own:/own', '--volume-driver', driver];
      const seen = await host.run(options, 'sh', '-c', 'echo 3 > /own/z; cat /data/x /anonymous/y /own/z');
      expect(seen).to.equal('1\n2\n3');
      expect(await host.volumes()).to.have.length(3);
    });

    it('S8 --rm takes an anonymous volume along, and leaves a named one', async () => {
      await host.run(
        ['--rm', '-v', '/data', '-v', 'named:/named', '--volume-driver', driver],
        'touch',
        '/data/x',
      );
      expect((await host.volumes()).map(({ name }) => name)).to.deep.equal(['named']);
    });

    it('S7 read-only refuses writes of that container, and of no other', async () => {
      await host.createVolume('vol');
      const message = await host.refused(
        ...['run', '--rm', '--network', 'host', '-v', 'vol:/data:ro', 'busybox', 'touch', '/data/x'],
      );
      expect(message).to.include('Read-only file system');
      await host.run(['--rm', '-v', 'vol:/data'], 'touch', '/data/x');
    });
  });

  describe('docker cp', () => {
    it('S13 in both directions leaves the volume of a running container mounted, while it writes', async () => {
      await host.createVolume('vol');
      await host.startContainer('app', ['-v', 'vol:/data'], writer('/data/log'));
      const { consumers } = await host.volume('vol');
      const mount = await host.mountOf('app', '/data');
      const onHost = host.mountEntries();
      const file = join(host.daemon.directory, 'copied');
      await writeFile(file, 'hello\n');
      for (const name of ['first', 'second', 'third']) {
        await host.docker('cp', file, `app:/data/${name}`);
        await host.docker('cp', 'app:/data/log', join(host.daemon.directory, 'log'));
      }
      expect(await host.mountOf('app', '/data')).to.deep.equal(mount);
      expect(host.mountEntries()).to.deep.equal(onHost);
      const now = (await host.volume('vol')).consumers;
      expect(now.map(({ mountId, count }) => [mountId, count])).to.deep.equal([[consumers[0]?.mountId, 1]]);

      const data = await host.dataPath('vol');
      expect(readFileSync(join(data, 'third'), 'utf8')).to.equal('hello\n');
      const copied = readFileSync(join(host.daemon.directory, 'log'), 'utf8');
      await until(
        'the container to write on',
        10_000,
        () => readFileSync(join(data, 'log')).length > copied.length,
      );
      expect(await host.docker('logs', 'app')).to.equal('');
      await host.docker('stop', '--time', '0', 'app');
      const log = readFileSync(join(data, 'log'), 'utf8');
      expect(isGapless(log)).to.equal(true);
      expect(log.startsWith(copied.slice(0, copied.lastIndexOf('\n') + 1))).to.equal(true);
      expect(host.mounts()).to.deep.equal([]);
    });
  });

  describe('first use', () => {
    before(() => {
      const entries = {
        data: { uid: 1000, gid: 1001, mode: 0o750 },
        'data/file': { uid: 1002, gid: 1003, mode: 0o4640, text: 'image\n' },
        empty: { uid: 1000, gid: 0, mode: 0o700 },
      };
      return importImage(host, 'seed', entries, { 'data/link': 'file' });
    });

    const runSeed = (mount: string) =>
      host.docker(
        'run',
        '--rm',
        '--network',
        'none',
        '-v',
        mount,
        'seed',
        '/bin/busybox',
        'ls',
        '-A',
        '/data',
        '/empty',
      );

    it('S11 copies the files of the image, and gives the root the owner, mode and attributes of its directory', async () => {
      await host.createVolume('vol');
      await runSeed('vol:/data');
      const data = await host.dataPath('vol');
      expect(lstatSync(data)).to.include({ uid: 1000, gid: 1001, mode: 0o40_750 });
      expect(lstatSync(join(data, 'file'))).to.include({ uid: 1002, gid: 1003, mode: 0o104_640 });
      expect(readFileSync(join(data, 'file'), 'utf8')).to.equal('image\n');
      expect(readlinkSync(join(data, 'link'))).to.equal('file');
      const { stdout } = await must('tar', ['--create', '--xattrs', '--directory', data, '.']);
      expect(stdout.match(/SCHILY\.xattr\.user\.of=seed\n/g), 'of the root and the file').to.have.length(2);
    });

    it('S11 an empty directory of the image gives its owner and mode, and nothing to see', async () => {
      await host.createVolume('vol');
      expect(await runSeed('vol:/empty')).to.match(/\/empty:$/);
      expect(lstatSync(await host.dataPath('vol'))).to.include({ uid: 1000, mode: 0o40_700 });
    });

    it('S11 a volume with files hides those of the image', async () => {
      await host.run(['--rm', '-v', 'vol:/x', '--volume-driver', driver], 'touch', '/x/own');
      expect(await runSeed('vol:/data')).to.match(/^\/data:\nown\n/);
      expect(readdirSync(await host.dataPath('vol'))).to.deep.equal(['own']);
    });

    it('S7 nocopy leaves an empty volume as it is', async () => {
      await host.createVolume('vol');
      expect(await runSeed('vol:/data:nocopy')).to.match(/^\/data:\n\n/);
      const data = await host.dataPath('vol');
      expect(readdirSync(data)).to.deep.equal([]);
      expect(lstatSync(data)).to.include({ uid: 0, gid: 0, mode: 0o40_755 });
    });
  });

  describe('what inspect shows', () => {
    it('S13 Status tells pool, use, limit, consumers, protection and health; CreatedAt is RFC 3339', async () => {
      await host.createVolume('vol', '-o', 'protect=true');
      await host.startContainer('app', ['-v', 'vol:/data'], 'echo hello > /data/x; exec sleep 10000');
      await host.daemon.varve('volume', 'du', 'vol');
      const { Status, CreatedAt, Mountpoint } = await host.inspectVolume('vol');
      const facts = {
        pool: 'default',
        health: 'ok',
        limit: 'none',
        consumers: 1,
        protected: true,
        phase: 'Ready',
      };
      expect(Status).to.include(facts);
      expect(Status).to.include({ inodes: 2, used: '8.0 KiB', usedBytes: 8192 });
      expect(CreatedAt).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
      expect(Math.abs(Date.now() - Date.parse(CreatedAt))).to.be.lessThan(60_000);
      expect(Mountpoint).to.equal((await host.volume('vol')).mountPoint);
    });

    it('S13 the labels that docker was given are learned, and survive a crash of varve', async () => {
      await host.createVolume('vol', '--label', 'team=storage', '--label', 'tier=2');
      const labels = { team: 'storage', tier: '2' };
      await until('varve to learn the labels', 10_000, async () => (await host.volume('vol')).labels['team']);
      const shown = await host.daemon.varve('volume', 'inspect', 'vol');
      expect(JSON.parse(shown.stdout)).to.have.deep.nested.property('[0].labels', labels);
      await host.daemon.kill9();
      await host.daemon.start();
      expect((await host.volume('vol')).labels).to.deep.equal(labels);
      expect((await host.inspectVolume('vol')).Labels).to.deep.equal(labels);
    });
  });

  describe('options', () => {
    const refusals = {
      'an unknown option, with the one that was meant': {
        name: 'vol',
        options: ['-o', 'siez=1g'],
        says: /unknown option "siez"; did you mean "size"\? The options are: uid, gid, mode, /,
      },
      'an unknown option that nothing resembles, with those there are': {
        name: 'vol',
        options: ['-o', 'xyzzy=1'],
        says: /unknown option "xyzzy"\. The options are: uid, gid, mode, /,
      },
      'a size that the pool cannot enforce, with what to do instead': {
        name: 'vol',
        options: ['-o', 'size=1g'],
        says: /cannot enforce a size, so size=1.0 GiB is refused.*; leave size out, or/,
      },
      'a mode that is none': { name: 'vol', options: ['-o', 'mode=rwx'], says: /mode="rwx"/ },
      'a pool that is not there': {
        name: 'vol',
        options: ['-o', 'pool=fast'],
        says: /no such pool: fast; the pools are: default/,
      },
      'a directory to copy that is not there': {
        name: 'vol',
        options: ['-o', 'from-path=/does/not/exist'],
        says: /from-path \/does\/not\/exist is not a directory/,
      },
      'a request for help, with the list': {
        name: 'vol',
        options: ['-o', 'help'],
        says: /uid=NUMBER[\s\S]*Nothing was created/,
      },
      'a name that leads outside': {
        name: '../../etc',
        options: [],
        says: /volume name "\.\.\/\.\.\/etc" is not allowed; use/,
      },
      'a name with a slash': { name: 'a/b', options: [], says: /volume name "a\/b" is not allowed; use/ },
      'a name with other letters': {
        name: 'ünï',
        options: [],
        says: /volume name "ünï" is not allowed; use/,
      },
      'a name of 300 letters': {
        name: 'x'.repeat(300),
        options: [],
        says: /has 300 characters; at most 255 are allowed/,
      },
    };
    for (const [title, { name, options, says }] of Object.entries(refusals)) {
      it(`S13 refuses ${title}, and creates nothing`, async () => {
        expect(await host.createRefused(name, ...options)).to.match(says);
        expect(await host.volumes()).to.deep.equal([]);
        expect(await host.listed()).to.deep.equal([]);
        expect(host.onDisk()).to.deep.equal([]);
      });
    }

    it('S13 uid, gid and mode are those of the root of the volume, as a container sees it', async () => {
      await host.createVolume('vol', '-o', 'mode=0700', '-o', 'uid=1000', '-o', 'gid=1001');
      const options = ['--rm', '-v', 'vol:/data', '--user', '1000:1001'];
      expect(await host.run(options, 'sh', '-c', 'touch /data/x && stat -c "%u %g %a" /data')).to.equal(
        '1000 1001 700',
      );
    });

    it('S14 an option with an empty value counts as not given', async () => {
      await host.createVolume('vol', '-o', 'mode=', '-o', 'uid=', '-o', 'from-path=', '-o', 'size=');
      expect((await host.volume('vol')).options).to.deep.equal({});
      expect(lstatSync(await host.dataPath('vol'))).to.include({ uid: 0, mode: 0o40_755 });
      await host.createVolume('vol');
    });

    it('S13 the same options find the volume, and others are refused with the difference', async () => {
      await host.createVolume('vol', '-o', 'mode=0700');
      expect(
        (await host.daemon.plugin('VolumeDriver.Create', { Name: 'vol', Opts: { mode: '0700' } })).status,
      ).to.equal(200);
      const { status, body } = await host.daemon.plugin('VolumeDriver.Create', {
        Name: 'vol',
        Opts: { mode: '0750' },
      });
      expect(status).to.equal(500);
      expect(body)
        .to.have.property('Err')
        .that.matches(/mode is "0700", asked for "0750"/);
    });
  });

  describe('from-path', () => {
    it('S13 copies in the background, says how far it is, and refuses Mount until it is done, also over a crash', async () => {
      const source = join(host.daemon.directory, 'source');
      await mkdir(source);
      await writeFile(join(source, 'file'), Buffer.alloc(2 ** 20, 'x'));
      await chown(join(source, 'file'), 1000, 1001);
      await chmod(source, 0o751);
      host.daemon.faults({ 'pool.copy:after': 'hold' });
      const began = performance.now();
      await host.createVolume('vol', '-o', `from-path=${source}`);
      expect(performance.now() - began).to.be.lessThan(10_000);

      for (const interrupt of [async () => {}, () => host.daemon.kill9().then(() => host.daemon.start())]) {
        await interrupt();
        await until('the copy to be held', 10_000, async () => {
          const { progress } = (await host.inspectVolume('vol')).Status;
          return progress === '1.0 MiB of 1.0 MiB copied';
        });
        expect((await host.daemon.varve('volume', 'ls')).stdout).to.match(/Creating 100%/);
        const refused = await host.refused(
          'run',
          '--rm',
          '--network',
          'none',
          '-v',
          'vol:/data',
          'busybox',
          'true',
        );
        expect(refused).to.include('volume vol is not ready yet: 1.0 MiB of 1.0 MiB copied; try again later');
      }
      host.daemon.faults({});
      await until('the copy to be done', 10_000, async () => (await host.volume('vol')).phase === 'Ready');
      const seen = await host.run(
        ['--rm', '-v', 'vol:/data'],
        'sh',
        '-c',
        'stat -c "%u %g %s" /data/file; stat -c %a /data',
      );
      expect(seen).to.equal(`1000 1001 ${2 ** 20}\n751`);
    });
  });

  describe('removal', () => {
    it('S13 of a protected volume is refused with what to do, until `varve volume unprotect`', async () => {
      await host.createVolume('vol', '-o', 'protect=true');
      await host.run(['--rm', '-v', 'vol:/data'], 'touch', '/data/x');
      expect(await host.refused('volume', 'rm', 'vol')).to.include(
        'volume vol is protected; run `varve volume unprotect vol` first',
      );
      expect(readdirSync(await host.dataPath('vol'))).to.deep.equal(['x']);
      expect((await host.daemon.varve('volume', 'unprotect', 'vol')).exitCode).to.equal(0);
      await host.docker('volume', 'rm', 'vol');
      expect(await host.volumes()).to.deep.equal([]);
    });

    it('S5 of a volume in use is refused by the engine, and by varve when the engine has forgotten', async () => {
      await host.createVolume('vol');
      await host.startContainer('app', ['-v', 'vol:/data'], writer('/data/log'));
      expect(await host.refused('volume', 'rm', 'vol')).to.include('volume is in use');
      const { status, body } = await host.daemon.plugin('VolumeDriver.Remove', { Name: 'vol' });
      expect(status).to.equal(500);
      expect(body)
        .to.have.property('Err')
        .that.matches(/volume vol is in use: process \d+ has it mounted on \/data; stop/);
      const removed = await host.daemon.varve('volume', 'rm', 'vol');
      expect(removed.exitCode).not.to.equal(0);
      expect(removed.stderr).to.include('volume vol is in use');
      await host.docker('stop', '--time', '0', 'app');
      expect(await host.docker('logs', 'app')).to.equal('');
      expect(isGapless(readFileSync(join(await host.dataPath('vol'), 'log'), 'utf8'))).to.equal(true);
    });
  });
});
