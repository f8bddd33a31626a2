import { expect } from 'chai';
import { checkRecords } from '../../../../src/core/volumes/catalog.ts';
import { rebuildRecords } from '../../../../src/core/volumes/rebuild.ts';
import { checkState, exportState } from '../../../../src/core/volumes/state.ts';
import type { StateFinding } from '../../../../src/core/volumes/view.ts';
import { AlreadyExists, Exhausted, FailedPrecondition, Unavailable } from '../../../../src/errors/errors.ts';
import { MemoryStore } from '../../../../src/store/memory/memory-store.ts';
import { PowerCut } from '../../../support/power.ts';
import { rejection } from '../../../support/rejection.ts';
import {
  type Daemon,
  Host,
  hostWithVolume,
  isMounted,
  mountId,
  runContainer,
  volumeName,
} from '../../../support/world.ts';

const db = volumeName('db');
const b = volumeName('b');
const id = mountId('id-1');

/** Does something again and again, each time cut off one half step later, until it is done. */
async function cutOffEverywhere(
  prepare: () => Promise<{ host: Host; daemon: Daemon }>,
  act: (daemon: Daemon) => Promise<unknown>,
  check: (host: Host, daemon: Daemon, halfSteps: number) => Promise<void>,
): Promise<number> {
  for (let halfSteps = 0; halfSteps < 500; halfSteps += 1) {
    const { host, daemon } = await prepare();
    daemon.power.cutAfter(halfSteps);
    await act(daemon).catch((error: unknown) => {
      if (!daemon.power.isOff) throw error;
    });
    if (!daemon.power.isOff) return halfSteps;
    await check(host, await host.start(), halfSteps);
  }
  throw new Error('it never ended');
}

async function freshHost(): Promise<{ host: Host; daemon: Daemon }> {
  const host = new Host();
  host.memory.write('/srv/seed/file', 'data');
  return { host, daemon: await host.start() };
}

/** Nothing is left of the work but what the records know. */
function strays(host: Host, daemon: Daemon): readonly string[] {
  const numbers = daemon.catalog.all().map(({ record }) => String(record.number));
  const top = host.memory
    .paths()
    .flatMap(path => path.match(/^\/varve\/(?:pools\/default|mnt)\/([^/]+)$/)?.[1] ?? []);
  return top.filter(
    name => !['pool.json', 'trash', ...numbers, ...numbers.map(n => `default-${n}`)].includes(name),
  );
}

describe('after a crash', () => {
  for (const options of [{}, { 'from-path': '/srv/seed' }] as Record<string, string>[]) {
    const kind = options['from-path'] === undefined ? 'an empty volume' : 'a volume from a directory';

    it(`${kind} is whole, or not there and can be made again, wherever Create was cut off`, async () => {
      const steps = await cutOffEverywhere(
        freshHost,
        daemon => daemon.service.create(b, daemon.driver, options),
        async (host, daemon, halfSteps) => {
          const where = `cut off after ${halfSteps} half steps`;
          await daemon.keeper.resume();
          await daemon.copies.settle(b, 1_000);
          await daemon.service.create(b, daemon.driver, options);
          await daemon.trash.empty();
          expect(daemon.inventory.volume(b).phase, where).to.equal('Ready');
          expect(strays(host, daemon), where).to.deep.equal([]);
          await daemon.service.mount(b, id);
          expect(await isMounted(host, daemon.inventory.volume(b).number), where).to.equal(true);
          expect(await checkState(daemon, false), where).to.deep.equal([]);
        },
      );
      expect(steps).to.be.greaterThan(20);
    });
  }

  it('a volume is whole, or gone with all its bytes, wherever Remove was cut off', async () => {
    const steps = await cutOffEverywhere(
      hostWithVolume,
      async daemon => {
        await daemon.service.remove(db, 'engine');
        await daemon.trash.empty();
      },
      async (host, daemon, halfSteps) => {
        const where = `cut off after ${halfSteps} half steps`;
        const found = daemon.service.list();
        if (found.length > 0) {
          expect(found[0], where).to.have.property('record');
          await daemon.service.mount(db, id);
          await daemon.service.unmount(db, id);
          await daemon.service.remove(db, 'engine');
        }
        await daemon.trash.empty();
        expect(strays(host, daemon), where).to.deep.equal([]);
        expect(await daemon.catalog.trash(), where).to.deep.equal([]);
        expect((await daemon.service.create(db, daemon.driver, {})).record.number, where).to.equal(2);
      },
    );
    expect(steps).to.be.greaterThan(20);
  });

  it('a removed volume does not come back as one that only the disk knows', async () => {
    const { host, daemon } = await hostWithVolume();
    await daemon.catalog.delete(daemon.catalog.get(db));
    const next = await host.start();
    expect(next.service.list()).to.deep.equal([]);
    await next.keeper.tick();
    expect(next.service.list()).to.deep.equal([]);
  });

  it('a mount point is made immutable, also when that was cut off', async () => {
    await cutOffEverywhere(
      freshHost,
      daemon => daemon.service.create(b, daemon.driver, {}),
      async (host, daemon) => {
        await daemon.keeper.resume();
        const volume = (await daemon.service.create(b, daemon.driver, {})).record;
        const points = await host.memory.open('/varve/mnt');
        const name = `default-${volume.number}`;
        expect(await rejection(points.removeDirectory(name))).to.be.instanceOf(FailedPrecondition);
      },
    );
  });

  it('nothing happens without power', async () => {
    const { daemon } = await hostWithVolume();
    daemon.power.cut();
    expect(await rejection(daemon.service.mount(db, id))).to.be.instanceOf(PowerCut);
  });
});

describe('a creation that a crash interrupted', () => {
  let host: Host;
  let daemon: Daemon;

  beforeEach(async () => {
    ({ host, daemon } = await freshHost());
  });

  /** Its record is written, and nothing else; the next run of the daemon has not gone on with it yet. */
  async function interrupt(defaults: Record<string, string>, options: Record<string, string> = {}) {
    const add = daemon.catalog.add.bind(daemon.catalog);
    daemon.catalog.add = async draft => add(draft).finally(() => daemon.power.cut());
    // A copy fails in the background, so that the call itself may not.
    await daemon.service.create(b, { ...daemon.driver, options: defaults }, options).catch(() => {});
    expect(daemon.power.isOff).to.equal(true);
    daemon = await host.start();
    expect(daemon.inventory.volume(b).phase).to.equal('Creating');
  }

  const modeOf = async () => (await (await host.memory.open(host.poolPath)).attributes('1/data')).mode;

  for (const how of ['the pool is away', 'the disk is full'] as const) {
    it(`is tried again, and nothing becomes trash, when ${how}`, async () => {
      await interrupt({});
      const create = daemon.pool.create.bind(daemon.pool);
      if (how === 'the pool is away') host.memory.takeAway(host.poolPath);
      else daemon.pool.create = () => Promise.reject(new Exhausted('the disk is full'));
      for (const act of [() => daemon.keeper.resume(), () => daemon.keeper.tick()]) {
        await act();
        expect(daemon.inventory.volume(b).phase).to.equal('Creating');
        expect(await daemon.catalog.trash()).to.deep.equal([]);
      }
      expect(await rejection(daemon.service.create(b, daemon.driver, {}))).to.be.instanceOf(Error);
      expect(daemon.inventory.volume(b).phase).to.equal('Creating');
      if (how === 'the pool is away') host.memory.bringBack(host.poolPath);
      daemon.pool.create = create;
      await daemon.keeper.tick();
      expect(daemon.inventory.volume(b)).to.include({ phase: 'Ready', number: 1 });
      expect(host.memory.paths()).to.include(`${host.poolPath}/1/data`);
    });
  }

  it('uses the defaults of its driver that it was made with, and its own options before them', async () => {
    await interrupt({ mode: '0700', uid: '7' }, { uid: '8' });
    await daemon.keeper.resume();
    expect(await modeOf()).to.equal(0o700);
    expect((await (await host.memory.open(host.poolPath)).attributes('1/data')).uid).to.equal(8);
  });

  it('copies the directory that was a default when it was made', async () => {
    await interrupt({ 'from-path': '/srv/seed' });
    await daemon.keeper.resume();
    await daemon.copies.settle(b, 1_000);
    expect(daemon.inventory.volume(b).phase).to.equal('Ready');
    expect(host.memory.read(`${host.poolPath}/1/data/file`)).to.equal('data');
  });

  it('uses them also when the engine asks again before it was gone on with', async () => {
    await interrupt({ mode: '0700' });
    await daemon.service.create(b, { ...daemon.driver, options: { mode: '0750' } }, {});
    expect(await modeOf()).to.equal(0o700);
  });
});

describe('an older database', () => {
  it('lifts no protection that the manifest has: the volume is protected again after the start', async () => {
    const { host, daemon } = await hostWithVolume();
    const old = await host.store.get('volumes/db');
    await daemon.service.protect(db, true);
    const manifest = host.memory.read(`${host.poolPath}/1/volume.json`);
    await host.store.transaction([], [{ type: 'put', key: 'volumes/db', value: old?.value }]);
    for (let start = 0; start < 2; start += 1) {
      const next = await host.start();
      expect(next.catalog.get(db).record.protected).to.equal(start > 0);
      await next.keeper.resume();
      const error = await rejection(next.service.remove(db, 'engine'));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('varve volume unprotect db');
      expect(host.memory.read(`${host.poolPath}/1/volume.json`)).to.equal(manifest);
    }
  });
});

describe('a damaged record', () => {
  const good = {
    ...{ name: 'db', driver: 'varve', pool: 'default', number: 1, options: {}, defaults: {} },
    ...{ createdAt: '2026-01-01T00:00:00.000Z', protected: false, phase: 'Ready' },
  };
  const damages: Record<string, unknown> = {
    'that is no object': null,
    'with a wrong number': { ...good, number: 'x' },
    'with number 0': { ...good, number: 0 },
    'of another name': { ...good, name: 'other' },
    'with a name that would lead out of its place': { ...good, name: '../x' },
    'with a phase that there is not': { ...good, phase: 'Gone' },
    'with a protection that is no boolean': { ...good, protected: 'no' },
    'with a time that is none': { ...good, createdAt: 'yesterday' },
  };
  for (const [what, value] of Object.entries(damages)) {
    it(`${what} is refused at the start, with its key and the cure`, async () => {
      const { host } = await hostWithVolume();
      await host.store.transaction([], [{ type: 'put', key: 'volumes/db', value: good }]);
      await host.start();
      await host.store.transaction([], [{ type: 'put', key: 'volumes/db', value }]);
      for (const look of [() => host.start(), () => checkRecords(host.store)]) {
        const error = await rejection(look());
        expect(error).to.be.instanceOf(FailedPrecondition);
        expect(error.message).to.contain('volumes/db').and.to.contain('varve state rebuild');
      }
    });
  }
});

describe('a volume that the records have forgotten', () => {
  let host: Host;
  let daemon: Daemon;

  /** The database of a backup is put back: it knows `db`, and not the newer `b`. */
  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
    const backup = await exportState(daemon);
    await daemon.service.create(b, daemon.driver, { mode: '0700' });
    await restore(backup.objects);
  });

  async function restore(
    objects: readonly { readonly key: string; readonly value: unknown }[],
  ): Promise<void> {
    host.store = new MemoryStore();
    await host.store.transaction(
      [],
      objects.map(({ key, value }) => ({ type: 'put', key, value })),
    );
    daemon = await host.start();
  }

  it('is shown by Get and List, so that the engine forgets nothing of it', () => {
    expect(daemon.inventory.volume(b, daemon.driver.name)).to.include({
      name: 'b',
      phase: 'Unrecorded',
      mountPoint: '',
      number: 2,
    });
    expect(daemon.inventory.volumes().map(({ name }) => name)).to.deep.equal(['b', 'db']);
    expect(daemon.inventory.volume(b).health).to.contain('varve state rebuild');
  });

  it('is refused by Create, Mount and Remove with the cure', async () => {
    const { service, driver } = daemon;
    const calls: (() => Promise<unknown>)[] = [
      () => service.create(b, driver, { mode: '0700' }),
      async () => service.mount(b, id),
      async () => service.remove(b, 'engine'),
      async () => service.protect(b, true),
    ];
    for (const call of calls) {
      const error = await rejection(call());
      expect(error).to.be.instanceOf(AlreadyExists);
      expect(error.message).to.contain('pool default, number 2').and.to.contain('varve state rebuild');
    }
    expect(host.memory.paths()).to.include(`${host.poolPath}/2/data`);
  });

  it('keeps its number', async () => {
    const made = await daemon.service.create(volumeName('c'), daemon.driver, {});
    expect(made.record.number).to.equal(3);
  });

  it('keeps its number also when its manifest cannot be read', async () => {
    host.memory.write(`${host.poolPath}/2/volume.json`, '{');
    const next = await host.start();
    expect((await next.service.create(volumeName('c'), next.driver, {})).record.number).to.equal(3);
  });

  it('keeps its number also when its disk comes late', async () => {
    host.memory.takeAway(host.poolPath);
    const next = await host.start();
    host.memory.bringBack(host.poolPath);
    expect((await next.service.create(volumeName('c'), next.driver, {})).record.number).to.equal(3);
  });

  it('comes back by `state check --repair`, once', async () => {
    const [finding, ...more] = await checkState(daemon, true);
    expect(more).to.deep.equal([]);
    expect(finding).to.include({ problem: 'unrecorded-volume', subject: 'default/2', repaired: true });
    expect(daemon.inventory.volumes().map(({ name, phase }) => [name, phase])).to.deep.equal([
      ['b', 'Ready'],
      ['db', 'Ready'],
    ]);
    await daemon.service.mount(b, id);
    expect(await checkState(daemon, false)).to.deep.equal([]);
  });

  it('comes back by `state rebuild`', async () => {
    const messages: string[] = [];
    const report = await rebuildRecords(daemon.catalog, daemon.pools, message => messages.push(message));
    expect(report).to.deep.equal({ restored: 1, kept: 1, damaged: [] });
    expect(messages).to.include('restored b (default/2)');
    const next = await host.start();
    expect(next.catalog.get(b).record).to.include({ number: 2, phase: 'Ready', protected: false });
    expect(next.catalog.get(b).record.options).to.deep.equal({ mode: '0700' });
  });

  it('all of them come back when the database is lost', async () => {
    host.store = new MemoryStore();
    const error = await rejection(host.start());
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect(error.message).to.contain('varve state rebuild');
    const rebuilding = await host.start({ rebuild: true });
    const report = await rebuildRecords(rebuilding.catalog, rebuilding.pools, () => {});
    expect(report).to.deep.equal({ restored: 2, kept: 0, damaged: [] });
    const next = await host.start();
    expect(next.inventory.volumes().map(({ name, phase }) => [name, phase])).to.deep.equal([
      ['b', 'Ready'],
      ['db', 'Ready'],
    ]);
    expect((await next.service.create(volumeName('c'), next.driver, {})).record.number).to.equal(3);
  });

  it('rebuild reports what it cannot use', async () => {
    host.memory.write(`${host.poolPath}/7/volume.json`, '{"version":9}');
    const twin = host.memory.read(`${host.poolPath}/1/volume.json`)?.replace('"number": 1', '"number": 8');
    host.memory.write(`${host.poolPath}/8/volume.json`, twin ?? '');
    const report = await rebuildRecords(daemon.catalog, daemon.pools, () => {});
    expect(report).to.include({ restored: 1, kept: 1 });
    expect(report.damaged.map(({ subject }) => subject)).to.deep.equal(['default/7', 'default/8']);
    expect(report.damaged[1]?.message).to.contain('a second volume with the name db');
  });

  it('rebuild takes no manifest whose record the next start would refuse', async () => {
    const text = host.memory
      .read(`${host.poolPath}/2/volume.json`)
      ?.replace(/"2026-[^"]*"/, '"2026-02-30T00:00:00Z"');
    host.memory.write(`${host.poolPath}/2/volume.json`, text ?? '');
    await rebuildRecords(daemon.catalog, daemon.pools, () => {});
    expect((await host.start()).catalog.get(db).record.phase).to.equal('Ready');
  });

  it('rebuild takes no removed volume back', async () => {
    await daemon.catalog.delete(daemon.catalog.get(db));
    expect(await rebuildRecords(daemon.catalog, daemon.pools, () => {})).to.include({ restored: 1, kept: 0 });
    expect(daemon.catalog.all().map(({ record }) => record.name)).to.deep.equal(['b']);
  });
});

describe('a pool whose disk is not there', () => {
  let host: Host;
  let daemon: Daemon;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
    host.memory.takeAway(host.poolPath);
  });

  it('makes nothing in the bare directory, and refuses until it is back', async () => {
    const { service, driver } = daemon;
    const calls = [
      () => service.create(b, driver, {}),
      () => service.mount(db, id),
      () => service.remove(db, 'engine'),
      async () => service.protect(db, true),
    ];
    for (const call of calls) {
      const error = await rejection(call());
      expect(error).to.be.instanceOf(Unavailable);
      expect(error.message).to.contain(host.poolPath).and.to.contain('mount');
    }
    expect(host.memory.paths().filter(path => path.startsWith(`${host.poolPath}/`))).to.deep.equal([]);
    host.memory.bringBack(host.poolPath);
    await service.mount(db, id);
    expect((await service.create(b, driver, {})).record.phase).to.equal('Ready');
  });

  it('still lets the daemon start, Get and List answer, and says what is wrong', async () => {
    const next = await host.start();
    await next.keeper.resume();
    await next.keeper.tick();
    const view = next.inventory.volume(db);
    expect(view).to.include({ phase: 'Ready', name: 'db' });
    expect(view.health).to.contain('its disk is probably not mounted');
    const [finding] = await checkState(next, true);
    expect(finding).to.include({ problem: 'pool-unavailable', subject: 'default', repaired: false });
    host.memory.bringBack(host.poolPath);
    await next.keeper.tick();
    expect(next.inventory.volume(db).health).to.equal('ok');
    expect(next.log.filter(line => line.startsWith('error'))).to.deep.equal([]);
  });

  it('is not taken for another pool on the same path', async () => {
    host.memory.write(`${host.poolPath}/pool.json`, '{"version":1,"uuid":"other"}');
    host.memory.write(`${host.poolPath}/1/data/foreign`, 'x');
    const error = await rejection(daemon.service.mount(db, id));
    expect(error).to.be.instanceOf(Unavailable);
    expect(error.message).to.contain('holds another pool (other instead of');
    await daemon.keeper.tick();
    expect(host.memory.read(`${host.poolPath}/1/data/foreign`)).to.equal('x');
  });

  for (const text of ['', '{', 'null', '[]', '{"uuid":7}', '{"uuid":""}', '\0']) {
    it(`is not there either when its marker is ${JSON.stringify(text)}`, async () => {
      host.memory.bringBack(host.poolPath);
      host.memory.write(`${host.poolPath}/pool.json`, text);
      const next = await host.start();
      const error = await rejection(next.service.mount(db, id));
      expect(error).to.be.instanceOf(Unavailable);
      expect(error.message).to.contain('pool.json is damaged');
      await next.keeper.tick();
      expect(next.inventory.volume(db).health).to.contain('damaged');
      host.store = new MemoryStore();
      expect(await rejection(host.start())).to.be.instanceOf(Unavailable);
      expect(host.memory.read(`${host.poolPath}/pool.json`)).to.equal(text);
    });
  }

  it('a volume that a crash left half made is finished when the disk is back', async () => {
    host.memory.bringBack(host.poolPath);
    const { power, service, driver, catalog } = daemon;
    const add = catalog.add.bind(catalog);
    catalog.add = async draft => {
      const volume = await add(draft);
      power.cut();
      return volume;
    };
    await rejection(service.create(b, driver, {}));
    host.memory.takeAway(host.poolPath);
    const next = await host.start();
    await next.keeper.resume();
    expect(next.inventory.volume(b).phase).to.equal('Creating');
    host.memory.bringBack(host.poolPath);
    await next.keeper.tick();
    expect(next.inventory.volume(b).phase).to.equal('Ready');
  });
});

describe('state check', () => {
  let host: Host;
  let daemon: Daemon;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
  });

  const manifest = () => `${host.poolPath}/1/volume.json`;
  const problems = async (repair = false) =>
    (await checkState(daemon, repair)).map(({ problem, subject, repaired }) => [problem, subject, repaired]);

  it('finds nothing wrong with a healthy host, in use or not', async () => {
    expect(await problems()).to.deep.equal([]);
    await daemon.service.mount(db, id);
    runContainer(host, 7);
    expect(await problems()).to.deep.equal([]);
  });

  it('finds a lost data directory, and leaves it to a person', async () => {
    await (await host.memory.open(host.poolPath)).removeTree('1/data');
    expect(await problems(true)).to.deep.equal([['missing-data', 'db', false]]);
  });

  for (const [problem, text] of [
    ['damaged-manifest', '{'],
    ['damaged-manifest', undefined],
    ['stale-manifest', 'other options'],
  ] as const) {
    it(`finds a ${problem} (${text ?? 'missing'}) and writes it again`, async () => {
      const good = host.memory.read(manifest()) ?? '';
      if (text === undefined) await (await host.memory.open(host.poolPath)).removeTree('1/volume.json');
      else
        host.memory.write(
          manifest(),
          text === '{' ? text : good.replace('"options": {}', '"options":{"uid":"1"}'),
        );
      expect(await problems()).to.deep.equal([[problem, 'db', false]]);
      expect(await problems(true)).to.deep.equal([[problem, 'db', true]]);
      expect(host.memory.read(manifest())).to.equal(good);
      expect(await problems()).to.deep.equal([]);
    });
  }

  it('finds a directory with a number that nobody knows, and leaves it to a person', async () => {
    host.memory.write(`${host.poolPath}/9/data/file`, 'x');
    expect(await problems(true)).to.deep.equal([['damaged-manifest', 'default/9', false]]);
    expect(host.memory.read(`${host.poolPath}/9/data/file`)).to.equal('x');
  });

  it('finds a second volume of the same name, and leaves it to a person', async () => {
    const twin = host.memory.read(manifest())?.replace('"number": 1', '"number": 9') ?? '';
    host.memory.write(`${host.poolPath}/9/volume.json`, twin);
    const [finding] = await checkState(daemon, true);
    expect(finding).to.include({ problem: 'unrecorded-volume', repair: null, repaired: false });
    expect(finding?.message).to.contain('a second volume with the name db');
  });

  it('finds a mount that no record knows, and unmounts it unless it is in use', async () => {
    const target = `${host.root}/mnt/default-9`;
    await host.mounts.mount({ type: 'bind', source: `${host.poolPath}/9/data`, target, readonly: false });
    runContainer(host, 7, 9);
    const [finding] = await checkState(daemon, true);
    expect(finding).to.include({ problem: 'leftover-mount', subject: target, repaired: false });
    expect(finding?.message).to.contain('process 7');
    host.mounts.endProcess(7);
    expect(await problems(true)).to.deep.equal([['leftover-mount', target, true]]);
    expect(await isMounted(host, 9)).to.equal(false);
  });

  it('finds a volume with consumers that is not mounted, and mounts it', async () => {
    await daemon.service.mount(db, id);
    await host.mounts.unmount(`${host.root}/mnt/default-1`);
    expect(await problems()).to.deep.equal([['missing-mount', 'db', false]]);
    expect(await problems(true)).to.deep.equal([['missing-mount', 'db', true]]);
    expect(await isMounted(host)).to.equal(true);
  });

  it('says that a repair failed, and why, and goes on with the next', async () => {
    await daemon.service.create(b, daemon.driver, {});
    for (const name of [db, b]) await daemon.service.mount(name, id);
    for (const number of [1, 2]) await host.mounts.unmount(`${host.root}/mnt/default-${number}`);
    host.mounts.failNext('mount', new Unavailable('the disk failed'));
    const findings: readonly StateFinding[] = await checkState(daemon, true);
    expect(findings.map(({ repaired }) => repaired)).to.deep.equal([false, true]);
    expect(findings[0]?.message).to.contain('repair failed: the disk failed');
  });

  it('exports everything the records hold', async () => {
    const { objects, version, revision } = await exportState(daemon);
    expect(version).to.equal(1);
    expect(revision).to.equal(await host.store.revision());
    expect(objects.map(({ key }) => key)).to.include.members(['volumes/db', 'pools/default', 'numbers/last']);
  });
});
