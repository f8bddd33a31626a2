import { expect } from 'chai';
import { startMs } from '../../../../src/core/volumes/consumers.ts';
import type { VolumeService } from '../../../../src/core/volumes/service.ts';
import {
  AlreadyExists,
  DeadlineExceeded,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
  Unavailable,
  Unimplemented,
} from '../../../../src/errors/errors.ts';
import { rejection } from '../../../support/rejection.ts';
import {
  type Daemon,
  type Host,
  hostWithVolume,
  isMounted,
  mountId,
  runContainer,
  volumeName,
} from '../../../support/world.ts';

const db = volumeName('db');
const id = mountId('id-1');

describe('VolumeService', () => {
  let host: Host;
  let daemon: Daemon;
  let service: VolumeService;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
    service = daemon.service;
  });

  const create = (options: Record<string, string>, name = db) => service.create(name, daemon.driver, options);

  describe('Create', () => {
    it('S13 again with the same options finds the same volume', async () => {
      const again = await create({});
      expect(again.record.number).to.equal(1);
      expect(daemon.catalog.all()).to.have.length(1);
    });

    it('S14 takes empty options for options that are not given', async () => {
      expect((await create({ mode: '', uid: '' })).record.number).to.equal(1);
      expect((await create({ mode: '', uid: '7' }, volumeName('b'))).record.options).to.deep.equal({
        uid: '7',
      });
    });

    it('with other options is refused, and says which differ', async () => {
      const error = await rejection(create({ mode: '0700' }));
      expect(error).to.be.instanceOf(AlreadyExists);
      expect(error.message).to.contain('db').and.to.contain('mode is "not set", asked for "0700"');
    });

    it('S12 of a volume of another driver is refused', async () => {
      const other = { ...daemon.driver, name: 'nas' as typeof daemon.driver.name };
      const error = await rejection(service.create(db, other, {}));
      expect(error).to.be.instanceOf(AlreadyExists);
      expect(error.message).to.contain('of driver varve');
    });

    it('S12 takes what the caller leaves out from the defaults of the driver', async () => {
      const driver = { ...daemon.driver, options: { mode: '0700', uid: '5' } };
      await service.create(volumeName('b'), driver, { uid: '6' });
      const root = await host.disk.open(`${host.poolPath}/2`);
      expect(await root.attributes('data')).to.include({ mode: 0o700, uid: 6 });
      expect((await service.create(volumeName('b'), driver, { uid: '6' })).record.number).to.equal(2);
    });

    it('gives the root directory its owner and mode, 0:0 and 0755 unless asked otherwise', async () => {
      await create({ uid: '1000', gid: '50', mode: '2770' }, volumeName('b'));
      const pool = await host.disk.open(host.poolPath);
      expect(await pool.attributes('1/data')).to.deep.equal({ uid: 0, gid: 0, mode: 0o755 });
      expect(await pool.attributes('2/data')).to.deep.equal({ uid: 1000, gid: 50, mode: 0o2770 });
    });

    it('with a size that the pool cannot enforce is refused, and nothing is made', async () => {
      const before = host.memory.paths();
      const error = await rejection(create({ size: '10Gi' }, volumeName('b')));
      expect(error).to.be.instanceOf(Unimplemented);
      expect(error.message).to.contain('10.0 GiB').and.to.contain('nothing was created');
      expect(host.memory.paths()).to.deep.equal(before);
    });

    it('in a pool that does not exist is refused, and the pools are named', async () => {
      const error = await rejection(create({ pool: 'fast' }, volumeName('b')));
      expect(error).to.be.instanceOf(NotFound);
      expect(error.message).to.contain('no such pool: fast').and.to.contain('default');
    });

    it('twice at the same time makes one volume', async () => {
      const name = volumeName('twin');
      const [one, two] = await Promise.all([create({}, name), create({}, name)]);
      expect(one).to.equal(two);
    });

    it('that fails leaves nothing: no record, no bytes, and the name is free', async () => {
      const before = host.memory.paths();
      const name = volumeName('b');
      const open = host.disk.open.bind(host.disk);
      host.disk.open = async path => {
        const directory = await open(path);
        directory.setAttributes = () => Promise.reject(new Unavailable('the disk failed'));
        return directory;
      };
      expect((await rejection(create({}, name))).message).to.equal('the disk failed');
      host.disk.open = open;
      expect(daemon.catalog.find(name)).to.equal(undefined);
      await daemon.trash.empty();
      const made = host.memory.paths().filter(path => !before.includes(path) && !path.endsWith('/trash'));
      expect(made).to.deep.equal([]);
      expect((await create({}, name)).record.phase).to.equal('Ready');
    });
  });

  describe('Mount and Unmount', () => {
    it('S13 mount once for many consumers, and unmount after the last', async () => {
      const target = await service.mount(db, id);
      expect(target).to.equal('/varve/mnt/default-1');
      expect(await service.mount(db, mountId('id-2'))).to.equal(target);
      expect(host.mounts.actions).to.have.length(1);
      await service.unmount(db, id);
      expect(await isMounted(host)).to.equal(true);
      await service.unmount(db, mountId('id-2'));
      expect(await isMounted(host)).to.equal(false);
      expect(service.mountPoint(daemon.catalog.get(db))).to.equal('');
    });

    it('of an unknown id, unmounting succeeds and changes nothing', async () => {
      await service.mount(db, id);
      await service.unmount(db, mountId('stranger'));
      expect(await isMounted(host)).to.equal(true);
    });

    it('a failed Mount leaves no consumer, since no Unmount will follow', async () => {
      host.mounts.failNext('mount', new FailedPrecondition('busy'));
      expect((await rejection(service.mount(db, id))).message).to.equal('busy');
      expect(daemon.catalog.get(db).consumers.size).to.equal(0);
      expect(await isMounted(host)).to.equal(false);
    });

    it('a failed Mount leaves the consumers that were there', async () => {
      await service.mount(db, id);
      runContainer(host, 7);
      host.mounts.failNext('mount', new Unavailable('no'));
      await rejection(service.mount(db, mountId('id-2')));
      expect([...daemon.catalog.get(db).consumers.keys()]).to.deep.equal([id]);
      expect(await isMounted(host)).to.equal(true);
    });

    it('is refused when we cannot see the engine, since we could not see who uses a volume either', async () => {
      const error = await rejection(service.mount(db, id, 0));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('--pid host');
      expect(daemon.catalog.get(db).consumers.size).to.equal(0);
      expect(host.mounts.actions).to.deep.equal([]);
    });

    it('from an engine that we cannot see, nothing is unmounted or removed from then on', async () => {
      await service.mount(db, id);
      daemon.publisher.noticeEngine(0);
      expect((await rejection(service.remove(db, 'person'))).message).to.contain('--pid host');
      await service.unmount(db, id);
      expect(await isMounted(host)).to.equal(true);
    });

    it('is refused when the engine cannot see the mount, says how to cure it, and leaves nothing mounted', async () => {
      host.mounts.hideFrom(42);
      const error = await rejection(service.mount(db, id, 42));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('process 42').and.to.contain('make-rshared');
      expect(daemon.catalog.get(db).consumers.size).to.equal(0);
      expect(await isMounted(host)).to.equal(false);
    });

    it('stays mounted while a container has it, whatever the counts say', async () => {
      await service.mount(db, id);
      runContainer(host, 7);
      await service.unmount(db, id);
      expect(await isMounted(host)).to.equal(true);
      host.mounts.endProcess(7);
      await daemon.keeper.tick();
      expect(await isMounted(host)).to.equal(false);
    });

    it('stays mounted while nobody can tell who has it', async () => {
      await service.mount(db, id);
      host.mounts.failNext('users', new Unavailable('a table cannot be read'));
      await service.unmount(db, id);
      expect(await isMounted(host)).to.equal(true);
      expect(daemon.log.join()).to.contain('volume db stays mounted for now: a table cannot be read');
      await daemon.keeper.tick();
      expect(await isMounted(host)).to.equal(false);
    });

    it('stays mounted while its pool is away, since the users are found by its directory', async () => {
      await service.mount(db, id);
      host.memory.takeAway(host.poolPath);
      await service.unmount(db, id);
      await daemon.keeper.tick();
      expect(await isMounted(host)).to.equal(true);
      host.memory.bringBack(host.poolPath);
      await daemon.keeper.tick();
      expect(await isMounted(host)).to.equal(false);
    });

    it('of an unknown volume is NotFound', async () => {
      for (const call of [service.mount(volumeName('x'), id), service.unmount(volumeName('x'), id)]) {
        expect(await rejection(call)).to.be.instanceOf(NotFound);
      }
    });

    it('waits for another operation on the volume up to a deadline, and holds no other volume', async () => {
      const impatient = await host.start({ waits: { lockMs: 5, copyMs: 5 } });
      await impatient.service.create(volumeName('b'), impatient.driver, {});
      const { promise, resolve } = Promise.withResolvers<void>();
      const holder = impatient.service.exclusively(db, () => promise);
      expect(await rejection(impatient.service.mount(db, id))).to.be.instanceOf(DeadlineExceeded);
      await impatient.service.mount(volumeName('b'), id);
      resolve();
      await holder;
    });

    it('an engine can start while one volume hangs', async () => {
      const impatient = await host.start({ waits: { lockMs: 5, copyMs: 5 } });
      await impatient.service.create(volumeName('b'), impatient.driver, {});
      for (const name of [db, volumeName('b')]) await impatient.service.mount(name, id);
      const { promise, resolve } = Promise.withResolvers<void>();
      const holder = impatient.service.exclusively(db, () => promise);
      await impatient.service.activate(impatient.driver.name);
      expect(impatient.catalog.get(volumeName('b')).consumers.get(id)?.confirmed).to.equal(false);
      resolve();
      await holder;
    });

    it('S12 the start of one engine puts only the consumers of its driver in doubt', async () => {
      await service.mount(db, id);
      await service.activate('nas' as typeof daemon.driver.name);
      expect(daemon.catalog.get(db).consumers.get(id)?.confirmed).to.equal(true);
      await service.activate(daemon.driver.name);
      expect(daemon.catalog.get(db).consumers.get(id)?.confirmed).to.equal(false);
    });
  });

  describe('Remove', () => {
    it('S13 removes the record, the mount point and the bytes', async () => {
      host.memory.write(`${host.poolPath}/1/data/file`, 'x');
      await service.remove(db, 'engine');
      await daemon.trash.empty();
      const left = host.memory.paths().filter(path => /\/(1|new-1|default-1)($|\/)/.test(path));
      expect(left).to.deep.equal([]);
      expect(await daemon.catalog.trash()).to.deep.equal([]);
      expect(await rejection(service.remove(db, 'engine'))).to.be.instanceOf(NotFound);
    });

    it('a new volume of the same name is another volume', async () => {
      await service.remove(db, 'engine');
      expect((await create({})).record.number).to.equal(2);
    });

    it('is refused while a mount namespace has the volume, even with no consumers', async () => {
      runContainer(host, 7);
      const error = await rejection(service.remove(db, 'engine'));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('db').and.to.contain('process 7').and.to.contain('/container/data');
      expect(host.memory.paths()).to.include(`${host.poolPath}/1/data`);
    });

    it('is refused while nobody can tell who has the volume', async () => {
      host.mounts.failNext('users', new Unavailable('a table cannot be read'));
      expect(await rejection(service.remove(db, 'engine'))).to.be.instanceOf(Unavailable);
      expect(daemon.catalog.find(db)).not.to.equal(undefined);
    });

    it('is done though consumers are counted when nobody uses the volume: engines forget to unmount', async () => {
      await service.mount(db, id);
      await service.remove(db, 'engine');
      expect(await isMounted(host)).to.equal(false);
      const anew = await create({});
      expect(anew.consumers.size).to.equal(0);
      expect((await host.start()).catalog.get(db).consumers.size).to.equal(0);
    });

    it('by a person is refused until a container that was just mounted for has had the time to start', async () => {
      await service.mount(db, id);
      host.clock.advance(startMs - 1);
      const error = await rejection(service.remove(db, 'person'));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('db').and.to.contain('try again');
      expect(await isMounted(host)).to.equal(true);
      host.clock.advance(1);
      await service.remove(db, 'person');
      expect(daemon.catalog.find(db)).to.equal(undefined);
    });

    it('by a person is done right after Unmount', async () => {
      await service.mount(db, id);
      await service.unmount(db, id);
      await service.remove(db, 'person');
      expect(daemon.catalog.find(db)).to.equal(undefined);
    });

    it('by the engine is done right after Mount: the engine knows its own containers', async () => {
      await service.mount(db, id);
      await service.remove(db, 'engine');
      expect(daemon.catalog.find(db)).to.equal(undefined);
    });

    it('is refused for a protected volume until it is unprotected', async () => {
      await service.protect(db, true);
      const error = await rejection(service.remove(db, 'engine'));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('varve volume unprotect db');
      await service.protect(db, false);
      await service.remove(db, 'engine');
    });

    it('protection can be asked for at Create, and is in the manifest', async () => {
      await create({ protect: 'true' }, volumeName('b'));
      await rejection(service.remove(volumeName('b'), 'engine'));
      expect(host.memory.read(`${host.poolPath}/2/volume.json`)).to.contain('"protected": true');
      await service.protect(volumeName('b'), false);
      expect(host.memory.read(`${host.poolPath}/2/volume.json`)).to.contain('"protected": false');
    });
  });

  it('lists by name, of one driver or of all', async () => {
    await create({}, volumeName('a'));
    await service.create(volumeName('c'), { ...daemon.driver, name: 'nas' as typeof daemon.driver.name }, {});
    const names = (driver?: typeof daemon.driver.name) =>
      daemon.inventory.volumes(driver).map(({ name }) => name);
    expect(names()).to.deep.equal(['a', 'b', 'c', 'db'].filter(name => name !== 'b'));
    expect(names(daemon.driver.name)).to.deep.equal(['a', 'db']);
    expect(() => service.get(volumeName('c'), daemon.driver.name)).to.throw(NotFound);
  });

  it('a restart finds everything again: records, labels, consumers in doubt, mounts', async () => {
    await service.mount(db, id);
    await daemon.catalog.saveLabels(daemon.catalog.get(db), { team: 'x' });
    const next = await host.start();
    const view = next.inventory.volume(db);
    expect(view).to.include({ name: 'db', phase: 'Ready', mountPoint: '/varve/mnt/default-1' });
    expect(view.labels).to.deep.equal({ team: 'x' });
    expect(view.consumers).to.have.length(1);
    expect(view.consumers[0]).to.include({ mountId: id, confirmed: false });
  });

  it('a new volume does not inherit the consumers of an older one of its name', async () => {
    await service.mount(db, id);
    const stale = await host.bootStore.get('volumes/db');
    await service.remove(db, 'engine');
    await create({});
    await host.bootStore.transaction([], [{ type: 'put', key: 'volumes/db', value: stale?.value }]);
    expect((await host.start()).inventory.volume(db).consumers).to.deep.equal([]);
  });

  it('a reboot clears consumers as it clears mounts', async () => {
    await service.mount(db, id);
    host.reboot();
    const view = (await host.start()).inventory.volume(db);
    expect(view.consumers).to.deep.equal([]);
    expect(view.mountPoint).to.equal('');
  });

  it('an unknown option makes nothing', async () => {
    const before = host.memory.paths();
    expect(await rejection(create({ siez: '1g' }, volumeName('b')))).to.be.instanceOf(InvalidArgument);
    expect(host.memory.paths()).to.deep.equal(before);
  });
});
