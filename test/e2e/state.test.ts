import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect } from 'chai';
import { must, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import { docker, inContainer, refused } from '../support/containers.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { Scratch } from '../support/host-scratch.ts';
import { LoopDisk } from '../support/loop-disk.ts';

describe('state that is lost, old or damaged never costs data', function () {
  this.timeout(60_000);
  let engine: TestEngine;
  let scratch: Scratch;

  before(async () => {
    scratch = await Scratch.make();
    engine = await startEngine();
  });
  after(async () => {
    await engine?.stop();
    await scratch?.remove();
  });

  interface View {
    readonly name: string;
    readonly number: number;
    readonly phase: string;
    readonly health: string;
    readonly protected: boolean;
    readonly options: Readonly<Record<string, string>>;
  }
  const volumesOf = async (daemon: TestDaemon): Promise<View[]> => {
    const { exitCode, stdout, stderr } = await daemon.varve('volume', 'ls', '--format', 'json');
    expect(exitCode, stderr).to.equal(0);
    return JSON.parse(stdout) as View[];
  };
  const viewOf = async (daemon: TestDaemon, name: string): Promise<View> => {
    const view = (await volumesOf(daemon)).find(volume => volume.name === name);
    if (view === undefined) throw new Error(`no volume ${name}`);
    return view;
  };
  const create = (daemon: TestDaemon, name: string, ...args: string[]) =>
    docker(engine, 'volume', 'create', '-d', daemon.driver, ...args, name);
  const write = (name: string, text: string) =>
    inContainer(engine, ['-v', `${name}:/data`], `echo ${text} > /data/file`);
  const read = (name: string) => inContainer(engine, ['-v', `${name}:/data`], 'cat /data/file');
  const errorOf = async (daemon: TestDaemon, method: string, body: unknown) => {
    const answer = await daemon.plugin(`VolumeDriver.${method}`, body);
    expect(answer.status, `${method}: ${JSON.stringify(answer.body)}`).to.equal(500);
    return (answer.body as { Err: string }).Err;
  };
  /** What the records hold, of which a rebuild may lose nothing. */
  const facts = async (daemon: TestDaemon) =>
    (await volumesOf(daemon)).map(({ name, number, phase, options, protected: kept }) => {
      return { name, number, phase, options, kept };
    });

  const parts = ['', '-wal', '-shm'];
  const databaseOf = (daemon: TestDaemon) => join(daemon.root, 'state.db');
  function keepDatabase(daemon: TestDaemon, name: string): string {
    const kept = join(scratch.path, name);
    for (const part of parts) {
      if (existsSync(`${databaseOf(daemon)}${part}`))
        copyFileSync(`${databaseOf(daemon)}${part}`, kept + part);
    }
    return kept;
  }
  function restoreDatabase(daemon: TestDaemon, kept: string): void {
    for (const part of parts) {
      rmSync(`${databaseOf(daemon)}${part}`, { force: true });
      if (existsSync(kept + part)) copyFileSync(kept + part, `${databaseOf(daemon)}${part}`);
    }
  }
  const removeDatabase = (daemon: TestDaemon) => {
    for (const part of parts) rmSync(`${databaseOf(daemon)}${part}`, { force: true });
  };

  describe('a database that cannot be used', () => {
    let daemon: TestDaemon;
    let whole: string;
    let recorded: Awaited<ReturnType<typeof facts>>;

    before(async () => {
      daemon = await startDaemon();
      await create(daemon, 'first', '-o', 'mode=0700', '-o', 'uid=1234', '--label', 'purpose=test');
      await create(daemon, 'second', '-o', 'protect=true');
      for (let at = 0; at < 40; at += 1) {
        const answer = await daemon.plugin('VolumeDriver.Create', {
          Name: `other-${at}`,
          Opts: { gid: `${at}` },
        });
        expect(answer.status).to.equal(200);
      }
      await write('first', 'one');
      await write('second', 'two');
      recorded = await facts(daemon);
      await daemon.stop();
      whole = keepDatabase(daemon, 'whole.db');
    });
    after(async () => {
      await daemon?.start();
      await daemon?.varve('volume', 'unprotect', 'second');
      // An engine that knows a volume whose driver is gone takes 15 seconds longer to start.
      await docker(engine, 'volume', 'rm', 'first', 'second');
      await daemon?.dispose();
    });
    afterEach(() => daemon.stop());

    const middle = (path: string, bytes: Buffer) => {
      const text = readFileSync(path);
      bytes.copy(text, Math.floor(text.length / 2));
      writeFileSync(path, text);
    };
    const setVersion = (path: string) => {
      const database = new Sqlite(path);
      database.pragma('user_version = 9999');
      database.close();
    };
    const rebuild = /run `varve state rebuild`/;
    const damages = [
      { what: 'lost', damage: (path: string) => rmSync(path), cure: rebuild },
      { what: 'empty', damage: (path: string) => truncateSync(path, 0), cure: rebuild },
      {
        what: 'truncated',
        damage: (path: string) => truncateSync(path, Math.floor(statSync(path).size / 8192) * 4096),
        cure: rebuild,
      },
      {
        what: 'full of garbage in its middle',
        damage: (path: string) => middle(path, Buffer.alloc(8192, 'garbage ')),
        cure: rebuild,
      },
      {
        what: 'no database',
        damage: (path: string) => writeFileSync(path, 'my notes\n'.repeat(999)),
        cure: rebuild,
      },
      { what: 'of a newer varve', damage: setVersion, cure: /run the newer varve that wrote it/ },
    ];
    for (const { what, damage, cure } of damages) {
      it(`S5 ${what}: the daemon is refused with the cure, and a rebuild restores every volume`, async () => {
        removeDatabase(daemon);
        copyFileSync(whole, databaseOf(daemon));
        damage(databaseOf(daemon));
        const { exitCode, stderr } = await daemon.varve('daemon');
        expect(stderr).to.match(cure);
        expect(exitCode).to.equal(4);
        expect([daemon.socket, daemon.adminSocket].filter(existsSync)).to.deep.equal([]);

        const rebuilt = await daemon.varve('state', 'rebuild', '--yes');
        expect(rebuilt.stderr).to.equal('');
        expect(rebuilt.stdout).to.equal('42 restored, 0 kept, 0 damaged\n');
        await daemon.start();
        expect(await facts(daemon)).to.deep.equal(recorded);
        expect(await read('first')).to.equal('one');
        expect(await read('second')).to.equal('two');
        expect((await daemon.varve('volume', 'rm', 'second')).stderr).to.include('is protected');
        expect((await daemon.varve('state', 'check')).exitCode).to.equal(0);
      });
    }

    it('S5 dockerd has kept labels and options through all of it', async () => {
      await daemon.start();
      await engine.restart();
      const format = '{{json .Labels}} {{json .Options}}';
      expect(await docker(engine, 'volume', 'inspect', '--format', format, 'first')).to.equal(
        '{"purpose":"test"} {"mode":"0700","uid":"1234"}',
      );
    });

    it('S5 a rebuild keeps a damaged database beside the new one', async () => {
      writeFileSync(databaseOf(daemon), 'my notes\n');
      await daemon.varve('state', 'rebuild', '--yes');
      const kept = readdirSync(daemon.root).filter(name => name.startsWith('state.db.damaged-'));
      const texts = kept.map(name => readFileSync(join(daemon.root, name), 'utf8'));
      expect(texts).to.include('my notes\n');
      await daemon.start();
    });

    it('S5 a rebuild of a whole database changes nothing', async () => {
      removeDatabase(daemon);
      copyFileSync(whole, databaseOf(daemon));
      const { stdout } = await daemon.varve('state', 'rebuild', '--yes');
      expect(stdout).to.equal('0 restored, 42 kept, 0 damaged\n');
      await daemon.start();
      expect(await facts(daemon)).to.deep.equal(recorded);
    });
  });

  describe('a database that is older than the disk', () => {
    let daemon: TestDaemon;
    let older: string;
    let later: View;

    before(async () => {
      daemon = await startDaemon();
      await create(daemon, 'early');
      await create(daemon, 'removed');
      await write('early', 'one');
      await daemon.stop();
      older = keepDatabase(daemon, 'older.db');
      await daemon.start();
      await create(daemon, 'later', '-o', 'mode=0700', '--label', 'purpose=test');
      await write('later', 'two');
      await docker(engine, 'volume', 'rm', 'removed');
      later = await viewOf(daemon, 'later');
      await daemon.stop();
    });
    beforeEach(async () => {
      restoreDatabase(daemon, older);
      await daemon.start();
    });
    afterEach(() => daemon.stop());
    after(() => daemon?.dispose());

    it('S5 the volume that it forgot is still listed, with the labels and options that dockerd keeps', async () => {
      await engine.restart();
      const filter = `driver=${daemon.driver}`;
      expect((await docker(engine, 'volume', 'ls', '--quiet', '--filter', filter)).split('\n')).to.include(
        'later',
      );
      const format = '{{json .Labels}} {{json .Options}} {{.Status.phase}}';
      expect(await docker(engine, 'volume', 'inspect', '--format', format, 'later')).to.equal(
        '{"purpose":"test"} {"mode":"0700"} Unrecorded',
      );
    });

    it('S5 it is not mounted, made again or removed; each refusal names the cure', async () => {
      for (const [method, body] of [
        ['Create', { Name: 'later', Opts: null }],
        ['Mount', { Name: 'later', ID: 'one' }],
        ['Remove', { Name: 'later' }],
      ] as const) {
        expect(await errorOf(daemon, method, body), method).to.match(/varve state (rebuild|check --repair)/);
      }
      const words = ['run', '--rm', '--network', 'host', '-v', 'later:/data', 'busybox', 'true'];
      expect(await refused(engine, ...words)).to.match(/varve state (rebuild|check --repair)/);
      expect(readFileSync(join(daemon.root, `pools/default/${later.number}/data/file`), 'utf8')).to.equal(
        'two\n',
      );
    });

    it('S5 its number is not given to another volume', async () => {
      await create(daemon, 'newest');
      expect((await viewOf(daemon, 'newest')).number).to.be.greaterThan(later.number);
      await docker(engine, 'volume', 'rm', 'newest');
    });

    it('S5 a volume that only the database knows is not made up: Mount says what is wrong', async () => {
      const { number } = await viewOf(daemon, 'removed');
      expect(await errorOf(daemon, 'Mount', { Name: 'removed', ID: 'one' })).to.match(
        /pools\/default\/\d+\/data/,
      );
      expect(existsSync(join(daemon.root, 'pools/default', String(number)))).to.equal(false);
      const { exitCode, stdout } = await daemon.varve('state', 'check');
      expect(exitCode).to.equal(1);
      expect(stdout).to.match(/^missing-data +removed /m);
    });

    it('S5 `varve state check --repair` restores it while the daemon runs', async () => {
      const found = await daemon.varve('state', 'check');
      expect(found.exitCode).to.equal(1);
      expect(found.stdout).to.match(
        /^unrecorded-volume +default\/\d+ .*later.*--repair: restore its record/m,
      );
      const repaired = await daemon.varve('state', 'check', '--repair');
      expect(repaired.stdout).to.match(/^unrecorded-volume .*done: restore its record/m);
      const restored = await viewOf(daemon, 'later');
      expect(restored).to.include({ phase: 'Ready', number: later.number });
      expect(restored.options).to.deep.equal({ mode: '0700' });
      expect(await read('later')).to.equal('two');
      expect(await read('early')).to.equal('one');
    });

    it('S5 `varve state rebuild` restores it while the daemon is stopped', async () => {
      await daemon.stop();
      const { stdout } = await daemon.varve('state', 'rebuild', '--yes');
      expect(stdout).to.match(/^1 restored, [12] kept, 0 damaged/);
      await daemon.start();
      expect(await read('later')).to.equal('two');
    });
  });

  describe('a pool whose disk is not there', () => {
    let daemon: TestDaemon;
    let disk: LoopDisk;
    let place: string;

    before(async () => {
      place = await scratch.directory('disk');
      disk = await LoopDisk.make(join(scratch.path, 'disk.img'), 8);
      await disk.mount(place);
      daemon = await startDaemon({ config: { pools: { disk: { path: place } } } });
      await create(daemon, 'on-disk', '-o', 'pool=disk');
      await create(daemon, 'on-root');
      await write('on-disk', 'kept');
      await write('on-root', 'here');
    });
    after(() => daemon?.dispose());

    /** What must hold while the disk is not there. */
    async function checkAbsence(reason: RegExp): Promise<void> {
      const get = await daemon.plugin('VolumeDriver.Get', { Name: 'on-disk' });
      expect(get.status).to.equal(200);
      await until('the health to be known', 5_000, async () => {
        return reason.test((await viewOf(daemon, 'on-disk')).health);
      });
      expect(await errorOf(daemon, 'Mount', { Name: 'on-disk', ID: 'one' })).to.match(reason);
      expect(await errorOf(daemon, 'Create', { Name: 'another', Opts: { pool: 'disk' } })).to.match(reason);
      expect(await errorOf(daemon, 'Remove', { Name: 'on-disk' })).to.match(reason);
      const words = [
        'run',
        '--rm',
        '--network',
        'none',
        '-v',
        'on-disk:/data',
        'busybox',
        'touch',
        '/data/lost',
      ];
      expect(await refused(engine, ...words)).to.match(reason);
      expect(await read('on-root')).to.equal('here');
      expect((await volumesOf(daemon)).map(({ name }) => name)).to.deep.equal(['on-disk', 'on-root']);
      const { stdout } = await daemon.varve('status');
      expect(stdout).to.match(new RegExp(`^Warning: pool disk: .*${reason.source}`, 'm'));
    }
    const notMounted = /has no pool\.json; its disk is probably not mounted/;

    it('S5 unmounted while the daemon is stopped: nothing is made in the bare directory, the rest works', async () => {
      await daemon.stop();
      await LoopDisk.unmount(place);
      await daemon.start();
      await checkAbsence(notMounted);
      expect(readdirSync(place)).to.deep.equal([]);
    });

    it('S5 mounted again while the daemon runs, it works without a restart', async () => {
      await disk.mount(place);
      expect(await read('on-disk')).to.equal('kept');
    });

    it('S5 unmounted while the daemon runs idle, which does not keep the disk busy', async () => {
      await LoopDisk.unmount(place);
      await checkAbsence(notMounted);
      expect(readdirSync(place)).to.deep.equal([]);
      await disk.mount(place);
      expect(await read('on-disk')).to.equal('kept');
      await LoopDisk.unmount(place);
    });

    it('S5 an empty disk in its place is refused and stays empty', async () => {
      const empty = await LoopDisk.make(join(scratch.path, 'empty.img'), 8);
      await empty.mount(place);
      await checkAbsence(notMounted);
      expect(readdirSync(place)).to.deep.equal(['lost+found']);
      await LoopDisk.unmount(place);
    });

    it('S5 the disk of another pool in its place is refused', async () => {
      const other = await LoopDisk.make(join(scratch.path, 'other.img'), 8);
      await other.mount(place);
      writeFileSync(
        join(place, 'pool.json'),
        '{"version":1,"uuid":"other","name":"disk","driver":"directory"}',
      );
      await checkAbsence(/holds another pool \(other instead of \S+\); mount the right disk/);
      expect(readdirSync(place).sort()).to.deep.equal(['lost+found', 'pool.json']);
      await LoopDisk.unmount(place);
    });

    it('S5 a rebuild of a lost database without the disk makes nothing there, and restores it with the disk', async () => {
      await daemon.stop();
      removeDatabase(daemon);
      const without = await daemon.varve('state', 'rebuild', '--yes');
      expect(without.exitCode).not.to.equal(0);
      expect(without.stdout + without.stderr).to.match(/pool disk: .*mount/);
      expect(readdirSync(place)).to.deep.equal([]);
      await disk.mount(place);
      expect((await daemon.varve('state', 'rebuild', '--yes')).exitCode).to.equal(0);
      await daemon.start();
      expect(await read('on-disk')).to.equal('kept');
      expect(await read('on-root')).to.equal('here');
    });
  });

  describe('a full disk under the root', () => {
    let daemon: TestDaemon;
    const filler = () => join(daemon.root, 'filler');

    before(async () => {
      daemon = await startDaemon({ start: false });
      await must('mkdir', [daemon.root]);
      await (await LoopDisk.make(join(scratch.path, 'small.img'), 16)).mount(daemon.root);
      await daemon.start();
      await create(daemon, 'used');
      await create(daemon, 'fresh');
      await create(daemon, 'big');
      await write('used', 'kept');
    });
    after(() => daemon?.dispose());

    const fill = async () => {
      const { stderr } = await run('dd', [
        'if=/dev/zero',
        `of=${filler()}`,
        'bs=4096',
        'oflag=append',
        'conv=notrunc',
      ]);
      expect(stderr).to.include('No space left on device');
      await must('sync', ['--file-system', daemon.root]);
      await run('dd', ['if=/dev/zero', `of=${filler()}`, 'bs=4096', 'oflag=append', 'conv=notrunc']);
    };
    const onDisk = () => readdirSync(join(daemon.root, 'pools/default')).sort();

    it('S5 create is refused, says that the disk is full, and leaves nothing', async () => {
      const before = onDisk();
      await fill();
      const said = await refused(engine, 'volume', 'create', '-d', daemon.driver, 'none');
      expect(said).to.match(/no space is left|database or disk is full/);
      const { exitCode } = await daemon.varve('volume', 'create', 'none', '--driver', daemon.driver);
      expect(exitCode).to.equal(5);
      expect(onDisk().filter(name => name !== 'trash')).to.deep.equal(
        before.filter(name => name !== 'trash'),
      );
      expect((await volumesOf(daemon)).map(({ name }) => name)).to.deep.equal(['big', 'fresh', 'used']);
    });

    it('S5 volumes are mounted and unmounted as before, also one that never was', async () => {
      expect(await read('used')).to.equal('kept');
      await inContainer(engine, ['-v', 'fresh:/data'], 'test -d /data');
      await until('both to be unmounted', 5_000, async () => {
        const { stdout } = await daemon.varve('status', '--format', 'json');
        return (JSON.parse(stdout) as { volumes: { mounted: number } }).volumes.mounted === 0;
      });
    });

    it('S5 the daemon starts again on the full disk', async () => {
      await daemon.stop();
      await fill();
      await daemon.start();
      expect(await read('used')).to.equal('kept');
    });

    it('S5 removing a volume is what frees the disk', async () => {
      rmSync(filler());
      await until('the reserve to be taken again', 10_000, () => existsSync(`${databaseOf(daemon)}-reserve`));
      const write =
        'dd if=/dev/zero of=/data/a bs=4096 2>/dev/null; sync; dd if=/dev/zero of=/data/b bs=4096 2>/dev/null';
      await inContainer(engine, ['-v', 'big:/data'], `${write}; true`);
      const said = await refused(engine, 'volume', 'create', '-d', daemon.driver, 'none');
      expect(said).to.match(/no space is left|database or disk is full/);
      await docker(engine, 'volume', 'rm', 'big');
      await until('the space to be free', 10_000, async () => {
        return (await daemon.plugin('VolumeDriver.Create', { Name: 'none', Opts: null })).status === 200;
      });
    });

    it('S5 with room again everything works, and the records agree with the disk', async () => {
      await create(daemon, 'new');
      await write('new', 'fine');
      expect(await read('new')).to.equal('fine');
      expect(await read('used')).to.equal('kept');
      expect((await daemon.varve('state', 'check')).stdout).to.include('agree');
      expect(onDisk().filter(name => name.startsWith('new-'))).to.deep.equal([]);
    });
  });
});
