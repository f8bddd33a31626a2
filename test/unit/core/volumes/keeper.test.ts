import { expect } from 'chai';
import { graceMs } from '../../../../src/core/volumes/consumers.ts';
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
      await daemon.service.remove(db);
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
