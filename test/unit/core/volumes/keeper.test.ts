import { mock } from 'node:test';
import { expect } from 'chai';
import { parsePoolName } from '../../../../src/core/names.ts';
import { forgottenMs, graceMs, startMs } from '../../../../src/core/volumes/consumers.ts';
import type { Pool } from '../../../../src/core/volumes/pool.ts';
import { openDirectoryPool } from '../../../../src/drivers/pools/directory/open.ts';
import { NotFound } from '../../../../src/errors/errors.ts';
import { MemoryStore } from '../../../../src/store/memory/memory-store.ts';
import { MemoryDisk } from '../../../support/memory-disk.ts';
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

describe('Keeper', () => {
  let host: Host;
  let daemon: Daemon;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
  });

  const consumers = () => daemon.inventory.volume(db).consumers.length;
  const engineSays = (running: boolean | undefined, labels: Record<string, string> = {}): void => {
    const containers = running === undefined ? [] : [{ id: 'c1', name: 'web', running }];
    host.engine.answer = [{ name: 'db', labels, containers }];
  };

  it('learns labels and containers from the engine, and keeps the labels when the engine loses them', async () => {
    engineSays(true, { team: 'x' });
    await daemon.keeper.tick();
    expect(daemon.inventory.volume(db).labels).to.deep.equal({ team: 'x' });
    expect(daemon.inventory.volume(db).containers).to.deep.equal(['web']);
    engineSays(undefined);
    await daemon.keeper.tick();
    expect((await host.start()).inventory.volume(db).labels).to.deep.equal({ team: 'x' });
  });

  it('writes nothing when there is nothing new', async () => {
    engineSays(true, { team: 'x' });
    await daemon.keeper.tick();
    const revision = await host.store.revision();
    await daemon.keeper.tick();
    expect(await host.store.revision()).to.equal(revision);
  });

  it('works without the engine, and says how that is', async () => {
    await daemon.keeper.tick();
    expect(daemon.keeper.engineState).to.deep.equal({
      version: null,
      error: 'the engine does not answer; start it',
    });
    engineSays(true);
    await daemon.keeper.tick();
    expect(daemon.keeper.engineState).to.deep.equal({ version: 'Fake Engine 1', error: null });
  });

  it('drops a consumer when the engine says that nobody has the volume, after the grace', async () => {
    await daemon.service.mount(db, id);
    engineSays(false);
    host.clock.advance(graceMs - 1);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(1);
    host.clock.advance(1);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(0);
    expect(await isMounted(host)).to.equal(false);
  });

  it('keeps a volume mounted that no container has yet: a long first copy, until it is forgotten', async () => {
    await daemon.service.mount(db, id);
    engineSays(undefined);
    for (const milliseconds of [startMs, graceMs, forgottenMs - startMs - graceMs - 1]) {
      host.clock.advance(milliseconds);
      await daemon.keeper.tick();
      expect(consumers()).to.equal(1);
      expect(await isMounted(host)).to.equal(true);
    }
    host.clock.advance(1);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(0);
    expect(await isMounted(host)).to.equal(false);
  });

  it('forgets a consumer that nobody has seen, without a word of the engine', async () => {
    await daemon.service.mount(db, id);
    host.clock.advance(forgottenMs - 1);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(1);
    host.clock.advance(1);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(0);
  });

  it('looks for the users of a volume in use again only after a grace, also when the engine denies it', async () => {
    await daemon.service.mount(db, id);
    runContainer(host, 7);
    engineSays(false);
    const users = host.mounts.users.bind(host.mounts);
    let looks = 0;
    host.mounts.users = async (...args) => {
      looks += 1;
      return users(...args);
    };
    for (const [milliseconds, expected] of [
      [graceMs - 1, 0],
      [1, 1],
      [0, 1],
      [graceMs - 1, 1],
      [1, 2],
    ] as const) {
      host.clock.advance(milliseconds);
      await daemon.keeper.tick();
      expect(looks).to.equal(expected);
    }
    expect(consumers()).to.equal(1);
  });

  it('believes an exact count as long as the engine does not answer', async () => {
    await daemon.service.mount(db, id);
    host.clock.advance(10 * graceMs);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(1);
  });

  it('believes the mount tables more than the engine', async () => {
    await daemon.service.mount(db, id);
    runContainer(host, 7);
    engineSays(undefined);
    host.clock.advance(graceMs);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(1);
    expect(await isMounted(host)).to.equal(true);
  });

  it('drops nobody while the pool is away, since the users are found by its directory', async () => {
    await daemon.service.mount(db, id);
    await daemon.service.activate(daemon.driver.name);
    host.clock.advance(graceMs);
    host.memory.takeAway(host.poolPath);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(1);
    host.memory.bringBack(host.poolPath);
    await daemon.keeper.tick();
    expect(consumers()).to.equal(0);
  });

  it('mounts again what has consumers and lost its mount', async () => {
    await daemon.service.mount(db, id);
    await host.mounts.unmount(`${host.root}/mnt/default-1`);
    const next = await host.start();
    await next.keeper.tick();
    expect(await isMounted(host)).to.equal(true);
  });

  it('notices a mount that was taken away by hand, and mounts it again for its consumers', async () => {
    await daemon.service.mount(db, id);
    await host.mounts.unmount(`${host.root}/mnt/default-1`);
    await daemon.keeper.tick();
    expect(await isMounted(host)).to.equal(true);
  });

  it('notices a mount that was made by hand, and takes it away when nobody uses it', async () => {
    const target = `${host.root}/mnt/default-1`;
    const source = `${host.poolPath}/1/data`;
    await host.mounts.mount({ type: 'bind', source, target, readonly: false });
    await daemon.keeper.tick();
    expect(await isMounted(host)).to.equal(false);
  });

  it('a mount point that was removed by hand is made again after one failed mount', async () => {
    const mount = host.mounts.mount.bind(host.mounts);
    host.mounts.mount = async request => {
      if (!host.memory.paths().includes(request.target)) throw new NotFound(`no ${request.target}`);
      await mount(request);
    };
    const points = await host.memory.open(`${host.root}/mnt`);
    await points.setImmutable('default-1', false);
    await points.removeDirectory('default-1');
    expect(await rejection(daemon.service.mount(db, id))).to.be.instanceOf(NotFound);
    await daemon.service.mount(db, id);
    expect(await isMounted(host)).to.equal(true);
    expect(await rejection(points.removeDirectory('default-1')), 'it is immutable').to.be.instanceOf(Error);
  });

  it('one volume that fails does not stop the others', async () => {
    await daemon.service.create(volumeName('aa'), daemon.driver, {});
    for (const name of [db, volumeName('aa')]) await daemon.service.mount(name, id);
    await daemon.service.activate(daemon.driver.name);
    host.clock.advance(graceMs);
    host.mounts.failNext('users', new Error('no'));
    await daemon.keeper.tick();
    expect(daemon.inventory.volumes().map(volume => volume.consumers.length)).to.have.members([0, 1]);
    expect(daemon.log.join()).to.match(/warn volume (db|aa): no/);
  });

  it('does not show a volume that is made while it looks at the disks as one that the records forgot', async () => {
    const numbers = daemon.pool.numbers.bind(daemon.pool);
    daemon.pool.numbers = async () => {
      daemon.pool.numbers = numbers;
      await daemon.service.create(volumeName('new'), daemon.driver, {});
      await daemon.service.remove(db, 'engine');
      return await numbers();
    };
    await daemon.keeper.tick();
    expect(daemon.inventory.volumes().map(({ name, phase }) => [name, phase])).to.deep.equal([
      ['new', 'Ready'],
    ]);
  });

  it('says of a volume whose pool is not configured that it is not well', async () => {
    const volume = daemon.catalog.get(db);
    await daemon.catalog.save(volume, { ...volume.record, pool: 'gone' as typeof volume.record.pool });
    await daemon.keeper.tick();
    expect(daemon.inventory.volume(db).health).to.contain('its pool gone is not configured');
  });

  it('measures the volumes that may have changed, and no others', async () => {
    host.memory.write(`${host.poolPath}/1/data/file`, '12345');
    const signal = new AbortController().signal;
    await daemon.meter.measureStale(signal);
    expect(daemon.inventory.volume(db).usage).to.deep.equal({
      bytes: 5,
      inodes: 2,
      measuredAt: host.clock.now().toISOString(),
    });
    host.clock.advance(1_000);
    await daemon.meter.measureStale(signal);
    expect(daemon.catalog.get(db).usage?.measuredAt).not.to.deep.equal(host.clock.now());
    await daemon.service.mount(db, id);
    await daemon.meter.measureStale(signal);
    expect(daemon.catalog.get(db).usage?.measuredAt).to.deep.equal(host.clock.now());
  });
});

describe('a pool that never answers', () => {
  const patienceMs = 5000;
  let host: Host;
  let daemon: Daemon;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
    const slow = await silentPool();
    const get = daemon.pools.get.bind(daemon.pools);
    daemon.pools.all = () => [slow, daemon.pool];
    daemon.pools.get = name => (name === slow.name ? slow : get(name));
    const stuck = await daemon.service.create(volumeName('aa'), daemon.driver, {});
    await daemon.catalog.save(stuck, { ...stuck.record, pool: slow.name });
    mock.timers.enable({ apis: ['setTimeout'] });
  });

  afterEach(() => mock.timers.reset());

  /** Its disk was there once, and every call to it hangs now. */
  async function silentPool(): Promise<Pool> {
    const disk = new MemoryDisk();
    const pool = await openDirectoryPool({
      ...{ disk, store: new MemoryStore(), name: parsePoolName('slow'), path: '/slow' },
      ...{ owner: 'owner', newUuid: () => 'uuid', rebuild: false },
    });
    disk.open = () => new Promise(() => {});
    disk.isDirectory = () => new Promise(() => {});
    return pool;
  }

  /** How often the patience of a pool passed until the act was done. */
  async function patiences(act: () => Promise<void>): Promise<number> {
    let isDone = false;
    const acting = act().finally(() => {
      isDone = true;
    });
    for (let passed = 0; passed < 10; passed += 1) {
      // Every step of the act in memory, before the time goes on.
      for (let turn = 0; turn < 20 && !isDone; turn += 1) await new Promise(setImmediate);
      if (isDone) return acting.then(() => passed);
      mock.timers.tick(patienceMs);
    }
    throw new Error('it waits for ever');
  }

  it('holds a look at the start up for no longer than its patience, and says so', async () => {
    expect(await patiences(() => daemon.keeper.observe())).to.equal(2);
    expect(daemon.inventory.volume(volumeName('aa')).health)
      .to.contain('/slow')
      .and.to.contain('not answer');
    expect(daemon.inventory.volume(db).health).to.equal('ok');
    expect(daemon.log.join()).to.contain('pool slow');
  });

  it('does not keep a round from the volumes of other pools', async () => {
    for (const name of [volumeName('aa'), db]) {
      const volume = daemon.catalog.get(name);
      const consumer = { count: 1, confirmed: true, sinceMs: host.clock.now().getTime() };
      await daemon.catalog.saveConsumers(volume, new Map([[id, consumer]]));
    }
    expect(await patiences(() => daemon.keeper.tick())).to.equal(2);
    expect(await isMounted(host)).to.equal(true);
    expect(daemon.inventory.volume(volumeName('aa')).health).to.match(/pool slow .* does not answer/);
    expect(
      await patiences(async () => void (await daemon.service.create(volumeName('new'), daemon.driver, {}))),
    ).to.equal(0);
  });
});
