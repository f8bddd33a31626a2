import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { mountsBelow } from '../../../scripts/lib/mounts.ts';
import { until } from '../../../scripts/lib/wait.ts';
import type { LayerInfo } from '../../../src/core/layers/layer-store.ts';
import type { MountSource } from '../../../src/core/mount.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { change, directory, file, hardLink, readTree, type TreeChange } from '../../support/layer-tree.ts';
import { LoopDisk } from '../../support/loop-disk.ts';
import { unmountWhenIdle } from '../../support/mount-points.ts';
import { LayerProcess, makeLayerProgram, type RemoteStore } from './layer-process.ts';
import type { StorePlace } from './real-store.ts';

/** What is known of a layer, and what it shows. Numbers and times differ from run to run. */
export type Observed = Omit<LayerInfo, 'number' | 'createdAt' | 'updatedAt' | 'usage'> & {
  readonly tree: readonly string[];
};

const megabytes = 512;

/** What stays through all tests: a layer, and one on top of it that is mounted all the while. */
const standing: readonly string[] = ['base', 'bystander'];
const baseTree: readonly TreeChange[] = [
  directory('d'),
  file('d/file', 'base'),
  file('d/other', 'base'),
  file('deleted', 'base'),
  hardLink('d/other', 'd/name'),
];

/** A layer store on a file system of its own, in a process that is killed again and again. */
export class LayerCrashWorld {
  readonly #scratch: Scratch;
  readonly #disk: string;
  readonly #driver: string;
  readonly #faults: string;
  readonly #mounter = new LinuxMounter();
  #place: StorePlace;
  #process: LayerProcess;
  /** Started beforehand, so that nobody waits for it. */
  #next: LayerProcess;
  #highest = 0;
  #bystander: readonly string[] = [];
  #bystanderPath = '';

  private constructor(scratch: Scratch, disk: string, driver: string) {
    this.#scratch = scratch;
    this.#disk = disk;
    this.#driver = driver;
    this.#faults = join(scratch.path, 'faults');
    writeFileSync(this.#faults, '');
    this.#place = this.#placeAt('store', 'boot-1');
    this.#process = new LayerProcess(this.#faults);
    this.#next = new LayerProcess(this.#faults);
  }

  static async open(driver: string, fileSystem: 'ext4' | 'btrfs'): Promise<LayerCrashWorld> {
    await makeLayerProgram();
    const scratch = await Scratch.make();
    try {
      const [memory, disk] = [await scratch.directory('memory'), await scratch.directory('disk')];
      await must('mount', '-t', 'tmpfs', '-o', 'size=1g', 'varve-test', memory);
      await (await LoopDisk.make(join(memory, 'image'), megabytes, fileSystem)).mount(disk);
      return await LayerCrashWorld.#furnished(new LayerCrashWorld(scratch, disk, driver));
    } catch (error) {
      await scratch.remove();
      throw error;
    }
  }

  static async #furnished(world: LayerCrashWorld): Promise<LayerCrashWorld> {
    try {
      await world.#furnish();
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  get store(): RemoteStore {
    return this.#process.store;
  }

  get root(): string {
    return join(this.#place.directory, 'root');
  }

  get scratch(): string {
    return this.#scratch.path;
  }

  /** Where the present store is. */
  get place(): StorePlace {
    return this.#place;
  }

  /** What happens at a fault point from now on: `{ 'layer.place:before': 'kill' }`. */
  faults(actions: Readonly<Record<string, 'kill' | 'error'>>): void {
    writeFileSync(
      this.#faults,
      Object.entries(actions)
        .map(words => words.join(' '))
        .join('\n'),
    );
  }

  /** The fault points that were passed since it was last asked. */
  takeHits(): ReadonlySet<string> {
    let text = '';
    try {
      text = readFileSync(`${this.#faults}.hits`, 'utf8');
    } catch {
      return new Set();
    }
    rmSync(`${this.#faults}.hits`);
    return new Set(text.split('\n').filter(line => line !== ''));
  }

  /** Ends the process as a crash does, and opens the store in the next one. */
  async restart({ bootId = 'boot-1' } = {}): Promise<void> {
    await this.replaceProcess();
    this.#place = { ...this.#place, bootId };
    await this.store.open(this.#place);
  }

  /** Goes on with a process that has nothing open. */
  async replaceProcess(): Promise<void> {
    await this.#process.kill9();
    this.#noteNumbers();
    this.#process = this.#next;
    this.#next = new LayerProcess(this.#faults);
  }

  /** Whether a fault has killed the process. */
  async hasDied(): Promise<boolean> {
    return (await this.#process.ended) === 'SIGKILL';
  }

  /** Lets the process die at a point of some work, and opens the store no more. */
  async dieAt(point: string, act: () => Promise<unknown>): Promise<void> {
    this.faults({ [point]: 'kill' });
    const error: Error | undefined = await act().then(
      () => undefined,
      (failure: Error) => failure,
    );
    this.faults({});
    expect(error?.name, `${point}: ${error?.message}`).to.equal('Died');
    await this.replaceProcess();
  }

  /** Goes on with a store of another name, as if there had never been any. */
  async openAnother(name: string): Promise<void> {
    this.#place = this.#placeAt(name, 'boot-1');
    await this.store.open(this.#place);
  }

  /** Changes what a writable layer shows. */
  async write(key: string, changes: readonly TreeChange[]): Promise<void> {
    await this.#mounted(await this.store.mounts(key), path => change(path, changes));
  }

  /** Every layer but the standing ones; what does not rest on nothing is seen from the top. */
  async observe(): Promise<readonly Observed[]> {
    const infos = await this.store.walk();
    this.#noteNumbers(infos);
    const numbers = infos.map(({ number }) => number);
    expect(new Set(numbers).size, `numbers: ${numbers}`).to.equal(numbers.length);
    const observed: Observed[] = [];
    for (const { number: _, createdAt: _created, updatedAt: _updated, usage: _usage, ...info } of infos) {
      if (standing.includes(info.name)) continue;
      const isTop = !infos.some(({ parent }) => parent === info.name);
      const tree = info.damage === null && isTop ? await this.#treeOf(info) : [];
      observed.push({ ...info, tree });
    }
    return observed.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Whether the layers that nobody touches are as they were, and a new one gets a number that was never given. */
  async expectPeace(): Promise<void> {
    const infos = await this.store.walk();
    const untouched = infos.filter(({ name }) => standing.includes(name));
    expect(untouched.map(({ name, damage }) => [name, damage])).to.deep.equal(
      standing.map(name => [name, null]),
    );
    expect(readTree(this.#bystanderPath), 'what a mounted layer shows').to.deep.equal(this.#bystander);
    await this.store.prepare('numbered');
    const { number } = await this.store.stat('numbered');
    expect(number, 'the number of a new layer').to.be.above(this.#highest);
    await this.store.remove('numbered');
  }

  /** Removes all layers but the standing ones, after which there is nothing: no directory, mount or loop device. */
  async expectNothingElse(): Promise<void> {
    await this.removeAll();
    await this.expectTidy();
  }

  /** Removes all layers but the standing ones. */
  async removeAll(): Promise<void> {
    const infos = [...(await this.store.walk())];
    while (infos.some(({ name }) => !standing.includes(name))) {
      const at = infos.findIndex(
        ({ name }) => !standing.includes(name) && !infos.some(({ parent }) => parent === name),
      );
      const [info] = infos.splice(at, 1);
      await this.store.remove(info?.name ?? '');
    }
    await this.store.cleanup();
  }

  /** Whether nothing stands on the disk that is not in the records. */
  async expectTidy(): Promise<void> {
    // fuse-overlayfs takes a moment to end, and the kernel to let go of a loop device.
    await until('the trash to be empty', 20_000, async () => (await this.store.cleanup()).left === 0);
    const infos = await this.store.walk();
    const names = infos.map(({ number }) => `${number}`);
    const limited = infos.filter(({ limit }) => limit !== null).map(({ number }) => `${number}`);
    const isUnion = this.#driver.includes('overlay');
    const own = /^(layers\.json|trash|l|empty)$/;
    expect(
      readdirSync(this.root).filter(name => !own.test(name)),
      'in the root',
    ).to.have.members(names);
    expect(await this.store.strays()).to.deep.equal([]);
    const upper = isUnion ? limited.map(name => join(this.root, name, 'upper')) : [];
    expect(mountsBelow(this.root), 'mounts').to.have.members(upper);
    await until('loop devices to be free', 20_000, () => this.#loopDevices().length === upper.length);
    if (isUnion) expect(readdirSync(join(this.root, 'l')), 'links').to.have.length(names.length);
  }

  /** A mount point of the test's own. */
  target(): Promise<string> {
    return this.#scratch.directory('target');
  }

  unmount(path: string): Promise<void> {
    return unmountWhenIdle(path, 10_000);
  }

  /** Ends everything and leaves nothing. */
  async close(): Promise<void> {
    await Promise.all([this.#process.kill9(), this.#next.kill9()]);
    try {
      // What a limit mounted inside goes first.
      const points = mountsBelow(this.#scratch.path);
      for (const point of points) await this.unmount(point);
    } finally {
      await this.#scratch.remove();
    }
  }

  /** Mounts, acts and unmounts. */
  async #mounted<T>(sources: readonly MountSource[], act: (path: string) => T): Promise<T> {
    const path = await this.#mount('look', sources);
    try {
      return act(path);
    } finally {
      await this.unmount(path);
      rmdirSync(path);
    }
  }

  async #mount(name: string, sources: readonly MountSource[]): Promise<string> {
    const target = join(await this.#scratch.directory('points'), name);
    mkdirSync(target);
    for (const source of sources) await this.#mounter.mount({ ...source, target });
    return target;
  }

  async #furnish(): Promise<void> {
    mkdirSync(this.#place.directory);
    await this.store.open(this.#place);
    await this.store.prepare('making of base');
    await this.write('making of base', baseTree);
    await this.store.commit('base', 'making of base');
    this.#bystanderPath = await this.#mount(
      'bystander',
      await this.store.prepare('bystander', { parent: 'base' }),
    );
    change(this.#bystanderPath, [file('own', 'written'), file('d/file', 'changed')]);
    this.#bystander = readTree(this.#bystanderPath);
    await this.expectTidy();
  }

  async #treeOf({ name, kind }: Pick<LayerInfo, 'name' | 'kind'>): Promise<readonly string[]> {
    if (kind !== 'committed') return await this.#mounted(await this.store.mounts(name), readTree);
    const sources = await this.store.view('look', { parent: name });
    try {
      return await this.#mounted(sources, readTree);
    } finally {
      await this.store.remove('look');
    }
  }

  /** Remembers the highest number that a layer ever had; a draft that no record knew of had none. */
  #noteNumbers(infos: readonly LayerInfo[] = []): void {
    const numbersIn = (path: string) =>
      (existsSync(path) ? readdirSync(path) : []).map(name => Number(/^[0-9]+/.exec(name) ?? 0));
    const onDisk = [...numbersIn(this.root), ...numbersIn(join(this.root, 'trash'))];
    this.#highest = Math.max(this.#highest, ...onDisk, ...infos.map(({ number }) => number));
  }

  /** Those of images below the root. */
  #loopDevices(): readonly string[] {
    return readdirSync('/sys/block')
      .filter(name => name.startsWith('loop'))
      .filter(name => {
        try {
          const backing = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8');
          return backing.startsWith(`${this.root}/`);
        } catch {
          return false;
        }
      });
  }

  #placeAt(name: string, bootId: string): StorePlace {
    return { directory: join(this.#disk, name), driver: this.#driver, bootId };
  }
}
