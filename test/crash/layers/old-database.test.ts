import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { file, readTree } from '../../support/layer-tree.ts';
import { LayerCrashWorld } from './world.ts';

type Step = (world: LayerCrashWorld) => Promise<unknown>;

const limit = { bytes: 8 * 1024 * 1024 };

async function fill({ store }: LayerCrashWorld, key: string, parent: string, options = {}): Promise<void> {
  await store.prepare(key, { parent, labels: { key }, ...options });
}

/** What happens to a store; before each step its database is copied. */
const history: Readonly<Record<string, Step>> = {
  'a layer was prepared': async world => {
    await fill(world, 'one', 'base');
    await world.write('one', [file('one', 'one')]);
  },
  'it was committed': ({ store }) => store.commit('lower', 'one'),
  'a layer with a limit was prepared over it': async world => {
    await fill(world, 'two', 'lower', { limit });
    await world.write('two', [file('two', 'two')]);
  },
  'that was committed': ({ store }) => store.commit('upper', 'two'),
  'a layer over both was frozen': async world => {
    await fill(world, 'writable', 'upper');
    await world.write('writable', [file('three', 'three')]);
    await world.store.freeze('writable', 'frozen');
    await world.write('writable', [file('four', 'four')]);
  },
  'two layers were merged': ({ store }) => store.merge('lower'),
  'a layer was made and removed': async world => {
    await fill(world, 'short-lived', 'frozen');
    await world.store.remove('short-lived');
    await world.store.cleanup();
  },
};

const fileSystems = { overlay: 'ext4', btrfs: 'btrfs' } as const;

for (const driver of ['overlay', 'btrfs'] as const) {
  describe(`a database of just before over newer layers (${driver})`, function () {
    this.timeout(60_000);
    let world: LayerCrashWorld;
    before(async () => {
      world = await LayerCrashWorld.open(driver, fileSystems[driver]);
    });
    after(() => world?.close());

    for (const [name, act] of Object.entries(history)) {
      it(`when ${name}: nothing is lost, and what it does not know is reported`, async () => {
        await copyRecords(world, name);
        await act(world);
        const shown = await world.observe();
        await world.store.cleanup();
        await copyRecords(world, 'newest');
        await expectNothingLost(world, name);
        await putBack(world, 'newest');
        expect(await world.observe()).to.deep.equal(shown);
      });
    }
  });

  describe(`an old database over newer layers (${driver})`, function () {
    this.timeout(60_000);
    let world: LayerCrashWorld;
    let newest: Awaited<ReturnType<LayerCrashWorld['observe']>>;

    before(async () => {
      world = await LayerCrashWorld.open(driver, fileSystems[driver]);
      for (const [name, act] of Object.entries(history)) {
        await copyRecords(world, name);
        await act(world);
      }
      newest = await world.observe();
      await world.store.cleanup();
      await copyRecords(world, 'newest');
    });
    after(() => world?.close());

    for (const name of Object.keys(history)) {
      it(`of the time when ${name}: nothing is lost, and what it does not know is reported`, () =>
        expectNothingLost(world, name));
    }

    it('that knows layers which are gone has them damaged', async () => {
      await putBack(world, 'two layers were merged');
      for (const { name, number, damage } of await world.store.walk()) {
        const isThere = readdirSync(world.root).includes(`${number}`);
        expect(damage === null, `whether ${name} is sound: ${damage}`).to.equal(isThere);
      }
    });

    it('put back in its newest state shows what there was', async () => {
      await putBack(world, 'newest');
      expect(await world.observe()).to.deep.equal(newest);
      await world.expectTidy();
    });

    it('lost altogether is restored from the manifests', async () => {
      await putBack(world, 'newest');
      await world.store.close();
      removeRecords(world);
      const { damaged } = await world.store.rebuild(world.place);
      expect(damaged).to.deep.equal([]);
      await world.restart();
      expect(await world.observe()).to.deep.equal(newest);
      await world.expectPeace();
      await world.expectTidy();
    });
  });
}

async function expectNothingLost(world: LayerCrashWorld, database: string): Promise<void> {
  const before = layersOnDisk(world);
  const log = await putBack(world, database);
  const numbers = (await world.store.walk()).map(({ number }) => `${number}`);
  await world.store.cleanup();
  expect(layersOnDisk(world)).to.deep.equal(before);
  const unrecorded = Object.keys(before).filter(number => !numbers.includes(number));
  for (const number of unrecorded)
    expect(log.join('\n')).to.include(`${world.root}/${number} is not in the records`);
  const strays = await world.store.strays();
  expect(strays.map(({ kind, number }) => `${kind} ${number}`)).to.have.members(
    unrecorded.map(number => `unrecorded ${number}`),
  );
  await world.expectPeace();
  await world.store.cleanup();
}

/** What every layer on the disk holds itself, whatever the records say. */
function layersOnDisk({ root }: LayerCrashWorld): Readonly<Record<string, readonly string[]>> {
  const numbers = readdirSync(root).filter(name => /^[0-9]+$/.test(name));
  return Object.fromEntries(numbers.map(number => [number, readTree(treeOf(join(root, number)))]));
}

/** A database that is closed is one file. */
async function copyRecords(world: LayerCrashWorld, name: string): Promise<void> {
  await world.store.close();
  mkdirSync(join(world.scratch, 'databases'), { recursive: true });
  copyFileSync(join(world.place.directory, 'state.db'), join(world.scratch, 'databases', name));
  await world.store.open(world.place);
}

/** @returns what opening the store with it wrote to the log */
async function putBack(world: LayerCrashWorld, name: string): Promise<readonly string[]> {
  await world.store.close();
  removeRecords(world);
  copyFileSync(join(world.scratch, 'databases', name), join(world.place.directory, 'state.db'));
  await world.replaceProcess();
  return await world.store.open(world.place);
}

function removeRecords({ place: { directory } }: LayerCrashWorld): void {
  for (const name of readdirSync(directory).filter(each => each.startsWith('state.db')))
    rmSync(join(directory, name));
}

/** Where a layer has its files: while it has a limit, in a file system of their own. */
function treeOf(directory: string): string {
  return [join(directory, 'fs'), join(directory, 'upper/fs')].find(path => existsSync(path)) ?? directory;
}
