import { expect } from 'chai';
import { type PoolName, parsePoolName } from '../../../../src/core/names.ts';
import { rebuildRecords } from '../../../../src/core/volumes/rebuild.ts';
import { checkState } from '../../../../src/core/volumes/state.ts';
import { openDirectoryPool } from '../../../../src/drivers/pools/directory/open.ts';
import { AlreadyExists, FailedPrecondition, Unavailable } from '../../../../src/errors/errors.ts';
import { MemoryStore } from '../../../../src/store/memory/memory-store.ts';
import { rejection } from '../../../support/rejection.ts';
import {
  type Daemon,
  type Host,
  hostWithVolume,
  Host as NewHost,
  volumeName,
} from '../../../support/world.ts';

const db = volumeName('db');
const b = volumeName('b');

/** The pool of the host as the varve of another root opens it. */
function openFromElsewhere(host: Host, rebuild = false) {
  return openDirectoryPool({
    ...{ disk: host.memory, rebuild, name: parsePoolName('default') satisfies PoolName },
    ...{ store: new MemoryStore(), path: host.poolPath, owner: 'elsewhere', newUuid: () => 'uuid' },
  });
}

describe('a pool directory that two roots name', () => {
  const marker = (host: Host) => JSON.parse(host.memory.read(`${host.poolPath}/pool.json`) ?? '{}');

  it('without volumes belongs to the second from then on, and the first is refused with the cure', async () => {
    const host = new NewHost();
    const daemon = await host.start();
    const { uuid } = marker(host);
    const other = await openFromElsewhere(host);
    await other.probe();
    expect(marker(host)).to.include({ owner: 'elsewhere', uuid });
    const error = await rejection(daemon.service.create(db, daemon.driver, {}));
    expect(error).to.be.instanceOf(Unavailable);
    expect(error.message).to.contain(host.poolPath).and.to.contain('belongs to another varve');
    expect(error.message).to.contain('name another directory').and.to.contain('varve state rebuild');
    expect(await rejection((await host.start()).pool.probe())).to.be.instanceOf(Unavailable);
    expect(daemon.catalog.all()).to.deep.equal([]);
  });

  it('with volumes of the first is refused to the second, and stays as it is', async () => {
    const { host, daemon } = await hostWithVolume();
    const before = marker(host);
    const error = await rejection(openFromElsewhere(host));
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect(error.message).to.contain(host.poolPath).and.to.contain('varve state rebuild');
    expect(error.message).to.contain('name another directory');
    expect(marker(host)).to.deep.equal(before);
    await daemon.pool.probe();
  });

  it('with volumes is taken over by a rebuild of the second, and the first is refused', async () => {
    const { host, daemon } = await hostWithVolume();
    const other = await openFromElsewhere(host, true);
    expect(marker(host)).to.have.property('owner', 'elsewhere');
    await other.probe();
    expect(await other.read(daemon.catalog.get(db).record.number)).to.have.property('manifest');
    expect(await rejection(daemon.service.remove(db, 'engine'))).to.be.instanceOf(Unavailable);
    await daemon.trash.empty();
    expect(host.memory.paths()).to.include(`${host.poolPath}/1/data`);
  });

  it('comes back to the first by a rebuild there, as its refusal says', async () => {
    const { host } = await hostWithVolume();
    await openFromElsewhere(host, true);
    const rebuilding = await host.start({ rebuild: true });
    const report = await rebuildRecords(rebuilding.catalog, rebuilding.pools, () => {});
    expect(report).to.deep.equal({ restored: 0, kept: 1, damaged: [] });
    expect(marker(host)).to.have.property('owner', 'owner');
    await (await host.start()).pool.probe();
  });
});

describe('a number whose directory is that of another volume', () => {
  let host: Host;
  let daemon: Daemon;
  const manifestPath = (number: number) => `${host.poolPath}/${number}/volume.json`;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
  });

  /** Another volume at a number that nobody sees in time. */
  function hideAnother(number: number): string {
    const text = host.memory.read(manifestPath(1))?.replace('"number": 1', `"number": ${number}`) ?? '';
    const others = text.replace('"name": "db"', '"name": "theirs"');
    host.memory.write(manifestPath(number), others);
    host.memory.write(`${host.poolPath}/${number}/data/file`, 'theirs');
    daemon.pool.numbers = async () => [];
    return others;
  }

  async function expectUntouched(others: string): Promise<void> {
    await daemon.trash.empty();
    expect(await daemon.catalog.trash()).to.deep.equal([]);
    expect(host.memory.read(manifestPath(2))).to.equal(others);
    expect(host.memory.read(`${host.poolPath}/2/data/file`)).to.equal('theirs');
  }

  it('is refused to Create, which moves nothing of it to the trash', async () => {
    const others = hideAnother(2);
    const error = await rejection(daemon.service.create(b, daemon.driver, {}));
    expect(error).to.be.instanceOf(AlreadyExists);
    expect(error.message).to.contain(`${host.poolPath}/2`).and.to.contain('varve state check');
    expect(daemon.catalog.find(b)).to.equal(undefined);
    await expectUntouched(others);
    expect((await daemon.service.create(b, daemon.driver, {})).record.number).to.equal(3);
  });

  it('is refused to a creation that is resumed, which moves nothing of it to the trash', async () => {
    const add = daemon.catalog.add.bind(daemon.catalog);
    daemon.catalog.add = async draft => add(draft).finally(() => daemon.power.cut());
    await rejection(daemon.service.create(b, daemon.driver, {}));
    const others = hideAnother(2);
    daemon = await host.start();
    await daemon.keeper.resume();
    await daemon.keeper.tick();
    expect(daemon.log.join()).to.contain(`${host.poolPath}/2 holds something else`);
    await expectUntouched(others);
  });

  const changes = { name: ['"name": "db"', '"name": "theirs"'], time: ['"2026-', '"2025-'] } as const;
  for (const [what, [from, to]] of Object.entries(changes)) {
    it(`(its manifest has another ${what}) keeps its manifest at a start, a look and a repair`, async () => {
      const others = host.memory.read(manifestPath(1))?.replace(from, to) ?? '';
      expect(others).to.contain(to);
      host.memory.write(manifestPath(1), others);
      daemon = await host.start();
      await daemon.keeper.resume();
      await daemon.keeper.tick();
      expect(host.memory.read(manifestPath(1))).to.equal(others);
      const [finding, ...more] = await checkState(daemon, true);
      expect(more).to.deep.equal([]);
      expect(finding).to.include({ problem: 'stale-manifest', subject: 'db', repair: null, repaired: false });
      expect(finding?.message).to.contain('holds another volume');
      expect(host.memory.read(manifestPath(1))).to.equal(others);
    });
  }

  it('its protection does not pass to the volume of the records', async () => {
    const text = host.memory.read(manifestPath(1)) ?? '';
    const others = text
      .replace('"name": "db"', '"name": "theirs"')
      .replace('"protected": false', '"protected": true');
    host.memory.write(manifestPath(1), others);
    daemon = await host.start();
    await daemon.keeper.resume();
    expect(daemon.catalog.get(db).record.protected).to.equal(false);
  });
});
