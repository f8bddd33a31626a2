import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import type { Stack } from '../../../src/core/layers/layer-disk.ts';
import type { LayerManifest } from '../../../src/core/layers/record.ts';
import { layerKeys } from '../../../src/core/layers/record.ts';
import {
  type LayerNumber,
  parseLayerKey,
  parseLayerNumber,
  parseLayerStoreName,
} from '../../../src/core/names.ts';
import type { Archiver, View } from '../../../src/drivers/layers/archive/archiver.ts';
import { closing, openAll } from '../../../src/drivers/layers/comparison.ts';
import { CopyDriver } from '../../../src/drivers/layers/copy/copy-driver.ts';
import { LayerDirectory } from '../../../src/drivers/layers/directory.ts';
import { DiskSync } from '../../../src/drivers/layers/disk-sync.ts';
import { writeMarker } from '../../../src/drivers/layers/marker.ts';
import { openLayerDirectory } from '../../../src/drivers/layers/open.ts';
import { Internal, NotFound, Unavailable } from '../../../src/errors/errors.ts';
import { LinuxDisk } from '../../../src/host/linux/disk.ts';
import { MemoryStore } from '../../../src/store/memory/memory-store.ts';
import { rejection } from '../../support/rejection.ts';
import { stack } from '../../support/whole-layers.ts';

const name = parseLayerStoreName('test');
const identity = { uuid: 'uuid-1', driver: 'copy' };
const [one, two] = [parseLayerNumber(1), parseLayerNumber(2)];

const manifest = (number: LayerNumber): LayerManifest => ({
  ...{ version: 1, number, name: parseLayerKey(`layer ${number}`), kind: 'active', parent: null, labels: {} },
  ...{ createdAt: '2026-01-01T00:00:00.000Z', updatedAt: '2026-01-01T00:00:00.000Z', limit: null },
  ...{ usage: null, diffId: null, archive: 'none', unsyncedBoot: null, damage: null },
});

/** Deletes and places as asked, unless a test says otherwise. */
class TestDriver extends CopyDriver {
  readonly asked: string[] = [];
  used: readonly LayerNumber[] = [];
  views = 0;
  isBroken = (_: string): boolean => false;

  override async isPlaced(): Promise<boolean> {
    this.asked.push('isPlaced');
    return this.isBroken('isPlaced');
  }

  override async placed(placed?: Stack): Promise<void> {
    this.asked.push(`placed ${placed?.[0]}`);
    if (this.isBroken(`placed ${placed?.[0]}`)) throw new Internal('this one cannot be attached');
  }

  override async view(shown: Stack): Promise<View> {
    const view = await super.view(shown);
    this.views += 1;
    const close = async () => {
      this.views -= 1;
      await view.close();
    };
    return { fd: view.fd, close };
  }

  override async inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    this.asked.push(`inUse ${numbers.join()}`);
    return new Set(this.used);
  }

  override async delete(directory: string): Promise<void> {
    if (this.isBroken(directory)) throw new Internal('structure needs cleaning');
    await super.delete(directory);
  }
}

describe('the directory of a layer store', () => {
  const disk = new LinuxDisk();
  let root: string;
  let driver: TestDriver;
  let archiver: Partial<Archiver>;
  let layers: LayerDirectory;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'varve-directory-'));
    archiver = { measure: async () => ({ bytes: 1, inodes: 1 }) };
    driver = new TestDriver({ root, archiver: archiver as Archiver });
    await writeMarker(disk, root, identity);
    layers = new LayerDirectory({ name, root, identity, disk, driver, archiver: archiver as Archiver });
    for (const number of [one, two]) {
      await layers.draft([number], manifest(number));
      await layers.place([number], 'active');
    }
  });

  afterEach(() => rm(root, { recursive: true }));

  it('keeps what is in the trash while we have it open ourselves, also a difference that nobody reads', async () => {
    const ended = Promise.withResolvers<void>();
    archiver.diff = () => ({ bytes: (async function* () {})(), ended: ended.promise });
    await layers.diff(stack(2), stack(1), {});
    for (const number of [one, two]) await layers.remove(number);
    expect(await layers.emptyTrash()).to.equal(2);
    expect(driver.views).to.equal(2);
    ended.resolve();
    await until('the trash to be empty', 1_000, async () => (await layers.emptyTrash()) === 0);
    expect(driver.views).to.equal(0);
  });

  it('ends the use of a layer when what it was for fails', async () => {
    archiver.diff = () => {
      throw new Internal('no pipe');
    };
    archiver.changes = async () => {
      throw new Internal('no worker');
    };
    expect((await rejection(layers.diff(null, stack(1), {}))).message).to.equal('no pipe');
    expect((await rejection(layers.changes(null, stack(1), {}))).message).to.equal('no worker');
    expect(driver.views).to.equal(0);
    await layers.remove(one);
    expect(await layers.emptyTrash()).to.equal(0);
  });

  it('looks for users once for the whole trash, and leaves what is used or cannot be deleted', async () => {
    for (const number of [3, 4]) {
      await mkdir(join(root, `${number}`));
      await layers.remove(parseLayerNumber(number));
    }
    for (const number of [one, two]) await layers.remove(number);
    driver.used = [two];
    driver.isBroken = path => path.endsWith('trash/1');
    driver.asked.splice(0);
    expect(await layers.emptyTrash()).to.equal(2);
    expect(driver.asked).to.deep.equal(['inUse 1,2,3,4']);
    expect(await readdir(join(root, 'trash'))).to.have.members(['1', '2']);
  });

  it('removes a layer once, whoever else removes it at the same time', async () => {
    await Promise.all([1, 2, 3, 4, 5, 6].map(() => layers.remove(one)));
    expect(await readdir(join(root, 'trash'))).to.deep.equal(['1']);
  });

  it('leaves out of the strays what vanishes while it is measured', async () => {
    await layers.remove(one);
    await layers.remove(two);
    let measured = 0;
    archiver.measure = async () => {
      measured += 1;
      if (measured > 1) return { bytes: 1, inodes: 1 };
      await rename(join(root, 'trash/1'), join(root, 'gone'));
      throw new NotFound('it does not exist');
    };
    const strays = await layers.strays([parseLayerNumber(9)]);
    expect(strays.map(({ number }) => number)).to.deep.equal([two]);
  });

  it('places at a start what needs it, and tells what fails without keeping the others from it', async () => {
    await layers.draft([parseLayerNumber(3)], manifest(parseLayerNumber(3)));
    driver.isBroken = what => what === 'placed 1';
    driver.asked.splice(0);
    const placings = [1, 2, 3, 4].map(number => ({ stack: stack(number), kind: 'active' }) as const);
    const failures = await layers.placeAll(placings);
    expect([...failures.keys()]).to.deep.equal([1, 4]);
    expect(failures.get(parseLayerNumber(4))).to.be.instanceOf(NotFound);
    expect(driver.asked.filter(what => what !== 'isPlaced')).to.deep.equal([
      'placed 1',
      'placed 2',
      'placed 3',
    ]);
    driver.isBroken = what => what === 'isPlaced';
    driver.asked.splice(0);
    expect((await layers.placeAll(placings.slice(0, 3))).size).to.equal(0);
    expect(driver.asked).to.deep.equal(['isPlaced', 'isPlaced', 'isPlaced']);
  });
});

describe('several views', () => {
  const closed: string[] = [];
  const view = (called: string) => ({
    fd: -1,
    close: async () => {
      closed.push(called);
      if (called === 'stuck') throw new Internal('stuck');
    },
  });

  beforeEach(() => closed.splice(0));

  it('are closed when the next one cannot be opened', async () => {
    const failing = openAll(
      async () => view('first'),
      async () => view('second'),
      () => Promise.reject(new NotFound('third')),
    );
    expect((await rejection(failing)).message).to.equal('third');
    expect(closed).to.deep.equal(['first', 'second']);
  });

  it('are all closed, also when one of them cannot be', async () => {
    const failing = closing([view('stuck'), view('other')], async () => 1);
    expect((await rejection(failing)).message).to.equal('stuck');
    expect(closed).to.deep.equal(['stuck', 'other']);
  });
});

describe('bringing layers to the disk', () => {
  it('fails for all who share it, and from then on, since the kernel tells of lost data once', async () => {
    const EIO = 5;
    const answers = [0, EIO];
    const sync = new DiskSync(tmpdir(), async () => ({ value: 0, errno: answers.shift() ?? 0 }));
    await sync.run();
    const outcomes = await Promise.allSettled([sync.run(), sync.run()]);
    for (const outcome of [...outcomes, ...(await Promise.allSettled([sync.run()]))]) {
      if (outcome.status !== 'rejected') throw new Error('it went well');
      expect(outcome.reason).to.be.instanceOf(Unavailable);
      expect(outcome.reason.message).to.include('look at the kernel log, then restart the daemon');
    }
  });

  it('can be tried again when it could not be begun', async () => {
    const scratch = await mkdtemp(join(tmpdir(), 'varve-directory-'));
    await rm(scratch, { recursive: true });
    const sync = new DiskSync(scratch);
    expect(await rejection(sync.run())).to.be.instanceOf(NotFound);
    await mkdir(scratch);
    await sync.run();
    await rm(scratch, { recursive: true });
  });
});

describe('opening the directory of a layer store', () => {
  const disk = new LinuxDisk();
  let root: string;
  let store: MemoryStore;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'varve-directory-'));
    store = new MemoryStore();
  });

  afterEach(() => rm(root, { recursive: true }));

  const open = (path = root) =>
    openLayerDirectory({
      ...{ disk, store, name, path, driver: 'copy', archiver: {} as Archiver },
      ...{ newUuid: () => 'uuid-2', rebuild: false, managed: false },
    });

  it('writes nothing to a bare directory where its disk should be mounted', async () => {
    const value = { ...identity, path: root };
    await store.transaction([], [{ type: 'put', key: layerKeys(name).identity, value }]);
    expect(await rejection(open())).to.be.instanceOf(Unavailable);
    expect(await readdir(root)).to.deep.equal([]);
    const gone = await rejection(open(join(root, 'gone')));
    expect(gone).to.be.instanceOf(Unavailable);
    expect(gone.message).to.include('mount its disk there');
    expect((await store.get(layerKeys(name).identity))?.value).to.deep.equal(value);
  });

  it('takes a marked one that the records do not know when it holds no layer', async () => {
    await writeMarker(disk, root, identity);
    for (const each of ['l', 'trash', 'new-7']) await mkdir(join(root, each));
    await (await open()).close();
    expect((await store.get(layerKeys(name).identity))?.value).to.include(identity);
  });

  it('refuses a marked one with layers that the records do not know', async () => {
    await writeMarker(disk, root, identity);
    await mkdir(join(root, '7'));
    await writeFile(join(root, '7/layer.json'), '{}');
    expect((await rejection(open())).message).to.include('varve state rebuild');
  });
});
