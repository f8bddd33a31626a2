import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { mountPoints } from '../../../scripts/lib/mounts.ts';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { docker, importImage, inContainer, refused, startContainer } from '../../support/containers.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { onFirstEngine, startEngine, type TestEngine } from '../../support/engine.ts';
import { Scratch } from '../../support/host-scratch.ts';

describe('what a container sees of its mounts', function () {
  this.timeout(60_000);
  let engine: TestEngine;
  let daemon: TestDaemon;
  let scratch: Scratch;
  /** A file system whose mounts propagate, as a host has it under systemd. */
  let shared: string;

  before(async () => {
    scratch = await Scratch.make();
    shared = await scratch.directory('shared');
    await must('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'varve-test', shared]);
    await must('mount', ['--make-shared', shared]);
    daemon = await startDaemon({ config: { pools: { shared: { path: join(shared, 'pool') } } } });
    engine = await startEngine();
    await importImage(engine, 'empty', { data: {} });
    await importImage(engine, 'full', fullImage);
    await importImage(engine, 'declared', fullImage, ['VOLUME /data']);
  });
  after(async () => {
    await engine?.stop();
    await daemon?.dispose();
    await scratch?.remove();
  });

  const fullImage = {
    data: { mode: '0750', owner: '1000:1001' },
    'data/of-image': { text: 'image\n', mode: '0640', owner: '1000:1001' },
    'data/deep/below': { text: 'below\n' },
  };
  let names = 0;
  const newName = () => `v${++names}`;
  const newDirectory = () => scratch.directory(`host-${++names}`);
  const newSharedDirectory = () => scratch.directory(`shared/host-${++names}`);
  const ofVarve = (...args: readonly string[]) => ['--volume-driver', daemon.driver, ...args];
  const createContainer = (args: readonly string[], script: string, image = 'busybox') =>
    docker(engine, 'create', '--network', 'host', ...args, image, 'sh', '-c', script);
  const driverOf = (name: string) => docker(engine, 'volume', 'inspect', '--format', '{{.Driver}}', name);
  const volumes = async () =>
    (await docker(engine, 'volume', 'ls', '--quiet', '--filter', `driver=${daemon.driver}`)).split('\n');

  describe('S6 the three ways to mount', () => {
    it('S6 a bind shows a host directory by its absolute path, both ways', async () => {
      const directory = await newDirectory();
      writeFileSync(join(directory, 'a'), 'of the host');
      const seen = await inContainer(engine, ['-v', `${directory}:/data`], 'cat /data/a; echo new > /data/b');
      expect(seen).to.equal('of the host');
      expect(readFileSync(join(directory, 'b'), 'utf8')).to.equal('new\n');
    });

    it('S6 -v makes a missing host directory', async () => {
      const missing = join(await newDirectory(), 'deep/missing');
      await inContainer(engine, ['-v', `${missing}:/data`], 'touch /data/a');
      expect(readdirSync(missing)).to.deep.equal(['a']);
    });

    it('S6 --mount refuses a missing host directory and does not make it', async () => {
      const missing = join(await newDirectory(), 'missing');
      const mount = `type=bind,source=${missing},target=/data`;
      expect(await refused(engine, 'run', '--rm', '--mount', mount, 'busybox', 'true')).to.include(
        'bind source path does not exist',
      );
      expect(existsSync(missing)).to.equal(false);
    });

    for (const driver of ['local', 'varve']) {
      it(`S6 a path that is not absolute is no bind, and refused as a name by ${driver}`, async () => {
        const args = driver === 'local' ? [] : ofVarve();
        const words = ['run', '--rm', '--network', 'host', ...args, '-v', 'some/where:/data'];
        expect(await refused(engine, ...words, 'busybox', 'true')).to.match(
          /some\/where.*(allowed|invalid)/s,
        );
        expect((await volumes()).filter(name => name.includes('where'))).to.deep.equal([]);
      });
    }

    it('S6 a named volume of varve outlives its containers', async () => {
      const name = newName();
      await inContainer(engine, ofVarve('-v', `${name}:/data`), 'echo kept > /data/a');
      expect(await inContainer(engine, ['-v', `${name}:/data`], 'cat /data/a')).to.equal('kept');
    });

    it('S6 an anonymous volume of varve lives as long as its --rm container', async () => {
      const before = await volumes();
      const id = await startContainer(engine, ofVarve('--rm', '-v', '/data'));
      const made = (await volumes()).filter(name => !before.includes(name));
      expect(made).to.have.lengthOf(1);
      expect(made[0]).to.match(/^[0-9a-f]{64}$/);
      expect(await driverOf(made[0] ?? '')).to.equal(daemon.driver);
      await docker(engine, 'exec', id, 'touch', '/data/a');
      await docker(engine, 'stop', id);
      await until('the volume to go with its container', 10_000, async () => {
        return (await volumes()).length === before.length;
      });
      expect(await volumes()).to.deep.equal(before);
    });

    for (const args of [
      ['--tmpfs', '/data:size=1m,mode=0700'],
      ['--mount', 'type=tmpfs,target=/data,tmpfs-size=1m,tmpfs-mode=0700'],
    ]) {
      it(`S6 ${args[0]}: a tmpfs is memory of its size and mode, and lost when the container stops`, async () => {
        const look = 'grep " /data " /proc/mounts; ls /data';
        const full = 'dd if=/dev/zero of=/data/big bs=1M count=2 2>&1 | grep -o "No space left"';
        const id = await createContainer(args, `${look}; ${full}`);
        for (const run of ['first', 'second']) {
          const seen = await docker(engine, 'start', '--attach', id);
          expect(seen, `${run}: ${seen}`).to.match(
            /^tmpfs \/data tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700\S* 0 0\nNo space left$/,
          );
        }
        await docker(engine, 'rm', id);
        expect(await inContainer(engine, args, 'stat -c %a /data')).to.equal('700');
      });
    }
  });

  describe('S7 every option in both syntaxes', () => {
    const kinds = ['bind', 'volume', 'tmpfs'] as const;
    type Kind = (typeof kinds)[number];
    interface Row {
      readonly option: string;
      readonly kinds: readonly Kind[];
      /** Whether a container can write there, or what docker says when it refuses. */
      readonly writable: boolean | RegExp;
    }
    const both: readonly Kind[] = ['bind', 'volume'];
    const shortRows: readonly Row[] = [
      { option: '', kinds: both, writable: true },
      { option: 'rw', kinds: both, writable: true },
      { option: 'ro', kinds: both, writable: false },
      { option: 'z', kinds: both, writable: true },
      { option: 'Z', kinds: both, writable: true },
      { option: 'consistent', kinds: both, writable: true },
      { option: 'delegated', kinds: both, writable: true },
      { option: 'cached', kinds: both, writable: true },
      { option: 'ro,Z,cached', kinds: both, writable: false },
      { option: 'nocopy', kinds: ['volume'], writable: true },
      { option: 'ro,nocopy', kinds: ['volume'], writable: false },
      { option: 'nocopy', kinds: ['bind'], writable: /VolumeOptions must not be specified/ },
      { option: 'rprivate', kinds: ['bind'], writable: true },
      { option: 'ro,rprivate', kinds: ['bind'], writable: false },
      { option: 'rprivate', kinds: ['volume'], writable: /BindOptions must not be specified/ },
      { option: 'rw,ro', kinds: both, writable: /invalid mode/ },
      { option: 'bogus', kinds: both, writable: /invalid mode/ },
    ];
    const longRows: readonly Row[] = [
      { option: '', kinds, writable: true },
      { option: 'readonly', kinds, writable: false },
      { option: 'readonly=true', kinds, writable: false },
      { option: 'readonly=false', kinds, writable: true },
      { option: 'ro', kinds, writable: false },
      { option: 'consistency=consistent', kinds: both, writable: true },
      { option: 'consistency=cached', kinds: both, writable: true },
      { option: 'consistency=delegated', kinds: both, writable: true },
      { option: 'bind-propagation=rslave', kinds: ['bind'], writable: true },
      { option: 'bind-propagation=rslave', kinds: ['volume', 'tmpfs'], writable: /cannot mix 'bind-/ },
      { option: 'volume-nocopy', kinds: ['volume'], writable: true },
      { option: 'volume-nocopy', kinds: ['bind', 'tmpfs'], writable: /cannot mix 'volume-/ },
      { option: 'volume-opt=mode=0711', kinds: ['volume'], writable: true },
      {
        option: 'volume-opt=siez=1',
        kinds: ['volume'],
        writable: /unknown option "siez"; did you mean "size"/,
      },
      { option: 'volume-label=a=b', kinds: ['volume'], writable: true },
      { option: 'tmpfs-size=1m', kinds: ['tmpfs'], writable: true },
      { option: 'tmpfs-size=1m', kinds: both, writable: /cannot mix 'tmpfs-/ },
    ];

    const source = async (kind: Kind): Promise<string> =>
      kind === 'bind' ? newSharedDirectory() : kind === 'volume' ? newName() : '';
    const short = async (kind: Kind, option: string) => {
      const target = `${await source(kind)}:/data`;
      return ofVarve('-v', option === '' ? target : `${target}:${option}`);
    };
    const long = async (kind: Kind, option: string) => {
      const from = await source(kind);
      const given = [
        `type=${kind}`,
        ...(from === '' ? [] : [`source=${from}`]),
        'target=/data',
        ...(kind === 'volume' ? [`volume-driver=${daemon.driver}`] : []),
        ...(option === '' ? [] : [option]),
      ];
      return ['--mount', given.join(',')];
    };

    const look = [
      'awk \'$5 == "/data" { print $6 }\' /proc/self/mountinfo | cut -d, -f1',
      'if touch /data/a 2>/tmp/why; then echo written; else cat /tmp/why; fi',
    ].join('; ');
    const check = async (args: readonly string[], writable: Row['writable']) => {
      if (writable instanceof RegExp) {
        const words = ['run', '--rm', '--network', 'host', ...args, 'busybox', 'true'];
        expect(await refused(engine, ...words)).to.match(writable);
        return;
      }
      const seen = await inContainer(engine, args, look);
      expect(seen).to.equal(writable ? 'rw\nwritten' : 'ro\ntouch: /data/a: Read-only file system');
    };
    const verdict = (writable: Row['writable']) =>
      writable instanceof RegExp ? 'refused' : writable ? 'can be written' : 'cannot be written';

    for (const { option, kinds: cells, writable } of shortRows) {
      for (const kind of cells) {
        it(`S7 -v ${kind}${option && `:${option}`}: ${verdict(writable)}`, async () => {
          await check(await short(kind, option), writable);
        });
      }
    }
    for (const { option, kinds: cells, writable } of longRows) {
      for (const kind of cells) {
        it(`S7 --mount type=${kind}${option && `,${option}`}: ${verdict(writable)}`, async () => {
          await check(await long(kind, option), writable);
        });
      }
    }

    it('S7 volume-driver, volume-opt and volume-label make the volume that they say', async () => {
      const name = newName();
      const mount = [
        `type=volume,source=${name},target=/data,volume-driver=${daemon.driver}`,
        'volume-opt=mode=0711,volume-opt=uid=1234,volume-label=purpose=test',
      ].join(',');
      expect(await inContainer(engine, ['--mount', mount], 'stat -c "%a %u" /data')).to.equal('711 1234');
      const format = '{{.Driver}} {{json .Labels}} {{json .Options}}';
      expect(await docker(engine, 'volume', 'inspect', '--format', format, name)).to.equal(
        `${daemon.driver} {"purpose":"test"} {"mode":"0711","uid":"1234"}`,
      );
    });
  });

  describe('S8 volumes that are made by running a container', () => {
    it('S8 -v NAME:/path makes a missing volume with the driver of --volume-driver', async () => {
      const name = newName();
      await inContainer(engine, ofVarve('-v', `${name}:/data`), 'touch /data/a');
      expect(await driverOf(name)).to.equal(daemon.driver);
    });

    it('S8 --mount makes a missing volume with the driver of volume-driver', async () => {
      const name = newName();
      const mount = `type=volume,source=${name},target=/data,volume-driver=${daemon.driver}`;
      await inContainer(engine, ['--mount', mount], 'touch /data/a');
      expect(await driverOf(name)).to.equal(daemon.driver);
    });

    it('S8 without a driver, the local one makes it', async () => {
      const name = newName();
      await inContainer(engine, ['-v', `${name}:/data`], 'touch /data/a');
      expect(await driverOf(name)).to.equal('local');
    });

    it('S8 a volume that exists is used as it is, whatever its driver', async () => {
      const name = newName();
      await docker(engine, 'volume', 'create', '--driver', daemon.driver, name);
      await inContainer(engine, ['-v', `${name}:/data`], 'touch /data/a');
      expect(await driverOf(name)).to.equal(daemon.driver);
    });

    it('S8 -v /path makes an anonymous volume that stays until rm -v', async () => {
      const before = await volumes();
      const id = await startContainer(engine, ofVarve('-v', '/data'));
      const made = (await volumes()).filter(name => !before.includes(name));
      expect(made).to.have.lengthOf(1);
      expect(await driverOf(made[0] ?? '')).to.equal(daemon.driver);
      await docker(engine, 'rm', '--force', '--volumes', id);
      expect(await volumes()).to.deep.equal(before);
    });
  });

  it('S9 --volumes-from gives all mounts of another container, and the own ones besides', async () => {
    const [volume, own, directory] = [newName(), newName(), await newDirectory()];
    const mounts = ['-v', `${volume}:/volume`, '-v', `${directory}:/bind:ro`, '-v', '/anonymous'];
    const first = await startContainer(engine, ofVarve(...mounts));
    await docker(engine, 'exec', first, 'sh', '-c', 'echo one > /volume/a; echo two > /anonymous/a');
    writeFileSync(join(directory, 'a'), 'three\n');
    const args = ofVarve('--volumes-from', first, '-v', `${own}:/own`);
    const script = 'cat /volume/a /anonymous/a /bind/a; touch /own/a; touch /bind/b || echo refused';
    expect(await inContainer(engine, args, script)).to.equal('one\ntwo\nthree\nrefused');
    const readonly = ['--volumes-from', `${first}:ro`];
    expect(await inContainer(engine, readonly, 'cat /volume/a; touch /volume/b || echo refused')).to.equal(
      'one\nrefused',
    );
    await docker(engine, 'rm', '--force', '--volumes', first);
  });

  describe('S10 propagation of mounts made after the start', () => {
    const table = [
      { mode: 'default', intoContainer: false, intoHost: false },
      { mode: 'private', intoContainer: false, intoHost: false },
      { mode: 'rprivate', intoContainer: false, intoHost: false },
      { mode: 'slave', intoContainer: true, intoHost: false },
      { mode: 'rslave', intoContainer: true, intoHost: false },
      { mode: 'shared', intoContainer: true, intoHost: true },
      { mode: 'rshared', intoContainer: true, intoHost: true },
    ];
    /** What a container needs to mount something; it is less than --privileged, which not every host can give. */
    const mayMount = [
      '--cap-add',
      'SYS_ADMIN',
      '--security-opt',
      'seccomp=unconfined',
      '--security-opt',
      'apparmor=unconfined',
    ];
    const syntaxes = {
      '-v': (from: string, mode: string) => ['-v', `${from}:/data${mode === 'default' ? '' : `:${mode}`}`],
      '--mount': (from: string, mode: string) => [
        '--mount',
        `type=bind,source=${from},target=/data${mode === 'default' ? '' : `,bind-propagation=${mode}`}`,
      ],
    };

    /** Mounts a tmpfs on each side of a running container. @returns which of them the other side sees */
    async function mountOnBothSides(id: string, onHost: string) {
      const inside = 'mkdir -p /data/by-container && mount -t tmpfs inside /data/by-container';
      const fromHost = join(onHost, 'by-host');
      await must('mkdir', ['-p', fromHost]);
      await must('mount', ['-t', 'tmpfs', 'outside', fromHost]);
      await docker(engine, 'exec', id, 'sh', '-c', inside);
      const seen = await docker(
        engine,
        'exec',
        id,
        'awk',
        '$5 ~ "^/data/" { print $5 }',
        '/proc/self/mountinfo',
      );
      const result = {
        intoContainer: seen.split('\n').includes('/data/by-host'),
        intoHost: mountPoints().includes(join(onHost, 'by-container')),
      };
      expect(seen.split('\n'), 'its own mount').to.include('/data/by-container');
      await docker(engine, 'exec', id, 'umount', '/data/by-container');
      await must('umount', [fromHost]);
      await docker(engine, 'rm', '--force', '--volumes', id);
      return result;
    }

    // The engine's own binds, without varve.
    onFirstEngine(() => {
      for (const [name, syntax] of Object.entries(syntaxes)) {
        for (const { mode, ...expected } of table) {
          it(`S10 ${name} ${mode}: host to container ${expected.intoContainer}, back ${expected.intoHost}`, async () => {
            const directory = await newSharedDirectory();
            const id = await startContainer(engine, [...mayMount, ...syntax(directory, mode)]);
            expect(await mountOnBothSides(id, directory)).to.deep.equal(expected);
          });
        }
      }
    });

    // The engine's own binds, without varve.
    onFirstEngine(() => {
      for (const mode of ['shared', 'rshared', 'slave', 'rslave']) {
        it(`S10 ${mode} is refused for a directory on a mount that is private`, async () => {
          const directory = await newDirectory();
          await must('mount', ['-t', 'tmpfs', 'varve-test', directory]);
          await must('mount', ['--make-private', directory]);
          const args = ['--rm', '--network', 'host', '-v', `${directory}:/data:${mode}`];
          const kind = mode.endsWith('shared') ? 'shared' : 'shared or slave';
          expect(await refused(engine, 'run', ...args, 'busybox', 'true')).to.include(
            `is mounted on ${directory} but it is not a ${kind} mount`,
          );
          await must('umount', [directory]);
        });
      }
    });

    for (const mode of ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave']) {
      it(`S10 ${mode} is refused for a volume`, async () => {
        const args = ['--rm', '--network', 'host', ...ofVarve('-v', `${newName()}:/data:${mode}`)];
        expect(await refused(engine, 'run', ...args, 'busybox', 'true')).to.include(
          'field BindOptions must not be specified',
        );
      });
    }

    it('S10 a volume in a pool on a shared mount is a slave: host mounts reach the container, not back', async () => {
      const name = newName();
      await docker(engine, 'volume', 'create', '-d', daemon.driver, '-o', 'pool=shared', name);
      const id = await startContainer(engine, [...mayMount, '-v', `${name}:/data`]);
      const mountPoint = await docker(engine, 'volume', 'inspect', '--format', '{{.Mountpoint}}', name);
      expect(mountPoints()).to.include(mountPoint);
      expect(await mountOnBothSides(id, mountPoint)).to.deep.equal({ intoContainer: true, intoHost: false });
    });
  });

  describe('S11 what a container sees at its start', () => {
    const list = 'cd /data; find . -type f | sort; cat of-* 2>/dev/null || true';
    const ofImage = './deep/below\n./of-image\nimage';
    const filled = async () => {
      const name = newName();
      await inContainer(engine, ofVarve('-v', `${name}:/data`), 'echo volume > /data/of-volume');
      return name;
    };
    const nameOf = (image: string) => (image === 'busybox' ? 'no' : image);
    const volumeCells = [
      { volume: 'empty', image: 'busybox', seen: '', stays: '' },
      { volume: 'empty', image: 'empty', seen: '', stays: '' },
      { volume: 'empty', image: 'full', seen: ofImage, stays: ofImage },
      { volume: 'full', image: 'busybox', seen: './of-volume\nvolume', stays: './of-volume\nvolume' },
      { volume: 'full', image: 'empty', seen: './of-volume\nvolume', stays: './of-volume\nvolume' },
      { volume: 'full', image: 'full', seen: './of-volume\nvolume', stays: './of-volume\nvolume' },
    ];
    for (const { volume, image, seen, stays } of volumeCells) {
      it(`S11 ${volume} volume over ${nameOf(image)} image directory`, async () => {
        const name = volume === 'full' ? await filled() : newName();
        const args = ofVarve('-v', `${name}:/data`);
        expect(await inContainer(engine, args, list, image)).to.equal(seen);
        expect(await inContainer(engine, args, list)).to.equal(stays);
      });
    }

    it('S11 the copied files, and the root of the volume, keep owner and mode', async () => {
      const args = ofVarve('-v', `${newName()}:/data`);
      const look = 'stat -c "%n %u:%g %a" /data /data/of-image';
      expect(await inContainer(engine, args, look, 'full')).to.equal(
        '/data 1000:1001 750\n/data/of-image 1000:1001 640',
      );
    });

    it('S11 what a container wrote over the copied files stays, and the image is not changed', async () => {
      const args = ofVarve('-v', `${newName()}:/data`);
      await inContainer(engine, args, 'echo changed > /data/of-image; rm /data/deep/below', 'full');
      expect(await inContainer(engine, args, list, 'full')).to.equal('./of-image\nchanged');
      expect(await inContainer(engine, [], list, 'full')).to.equal(ofImage);
    });

    const nocopy = {
      '-v': (name: string) => ofVarve('-v', `${name}:/data:nocopy`),
      '--mount': (name: string) => [
        '--mount',
        `type=volume,source=${name},target=/data,volume-driver=${daemon.driver},volume-nocopy`,
      ],
    };
    for (const [syntax, args] of Object.entries(nocopy)) {
      it(`S11 ${syntax} with nocopy: an empty volume over a full image directory stays empty`, async () => {
        expect(await inContainer(engine, args(newName()), list, 'full')).to.equal('');
      });
    }

    it('S11 an anonymous volume over a full image directory gets the files', async () => {
      expect(await inContainer(engine, ofVarve('-v', '/data'), list, 'full')).to.equal(ofImage);
    });

    it('S11 VOLUME of an image: a volume of --volume-driver, with the files', async () => {
      const id = await createContainer(ofVarve(), list, 'declared');
      const format = '{{range .Mounts}}{{.Driver}} {{.Destination}}{{end}}';
      expect(await docker(engine, 'inspect', '--format', format, id)).to.equal(`${daemon.driver} /data`);
      expect(await docker(engine, 'start', '--attach', id)).to.equal(ofImage);
      await docker(engine, 'rm', '--volumes', id);
    });

    // The engine's own binds, without varve.
    onFirstEngine(() => {
      for (const syntax of ['-v', '--mount']) {
        const bind = (from: string, to: string) =>
          syntax === '-v' ? ['-v', `${from}:${to}`] : ['--mount', `type=bind,source=${from},target=${to}`];

        for (const image of ['busybox', 'empty', 'full']) {
          const over = `over ${nameOf(image)} image directory`;
          it(`S11 ${syntax} bind of an empty host directory ${over}: nothing, on both sides`, async () => {
            const directory = await newDirectory();
            expect(await inContainer(engine, bind(directory, '/data'), list, image)).to.equal('');
            expect(readdirSync(directory)).to.deep.equal([]);
          });

          it(`S11 ${syntax} bind of a full host directory ${over}: the host's files`, async () => {
            const directory = await newDirectory();
            writeFileSync(join(directory, 'of-host'), 'host\n');
            expect(await inContainer(engine, bind(directory, '/data'), list, image)).to.equal(
              './of-host\nhost',
            );
            expect(readdirSync(directory)).to.deep.equal(['of-host']);
          });
        }

        it(`S11 ${syntax} bind of a file hides that file alone`, async () => {
          const file = join(await newDirectory(), 'file');
          writeFileSync(file, 'host\n');
          const script = `${list}; echo changed > /data/of-image`;
          expect(await inContainer(engine, bind(file, '/data/of-image'), script, 'full')).to.equal(
            './deep/below\n./of-image\nhost',
          );
          expect(readFileSync(file, 'utf8')).to.equal('changed\n');
        });
      }
    });
  });
});
