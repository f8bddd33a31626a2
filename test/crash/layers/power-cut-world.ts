import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { run, tail } from '../../../scripts/lib/process.ts';
import type { LayerInfo, LayerStore } from '../../../src/core/layers/layer-store.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { must } from '../../support/host-scratch.ts';
import {
  change,
  chown,
  directory,
  file,
  hardLink,
  randomBytes,
  readTree,
  symbolicLink,
  time,
} from '../../support/layer-tree.ts';
import { collect } from '../../support/layer-world.ts';
import { type FileSystem, PowerCutDisk } from '../../support/power-cut-disk.ts';
import type { JournalLine, Moment, PowerCutTask } from './power-cut-child.ts';
import { type KnownLayer, KnownLayers, type Work } from './power-cut-work.ts';
import { openRealStore, type StorePlace } from './real-store.ts';

const archives = 4;
const filesOfArchive = 150;
const patienceMs = 60_000;
/** What all archives have, each another one. */
const common = '/common ';

/** What answers, and calls that were not answered, tell of the layers. */
interface Told {
  readonly known: ReadonlyMap<string, KnownLayer>;
  /** Whether these exist nobody knows. */
  readonly doubtful: ReadonlyMap<string, KnownLayer>;
}

/** A layer store on a disk whose power is cut while clients fill it. */
export class LayerPowerWorld {
  readonly #disk: PowerCutDisk;
  readonly #scratch: string;
  /** The archives as files, and what they hold. */
  readonly #archives: { readonly path: string; readonly tree: readonly string[] }[] = [];
  #boots = 1;

  private constructor(disk: PowerCutDisk) {
    this.#disk = disk;
    this.#scratch = mkdtempSync(join(tmpdir(), 'varve-layer-power-'));
    mkdirSync(disk.root);
    mkdirSync(join(this.#scratch, 'look'));
  }

  static async open(type: FileSystem): Promise<LayerPowerWorld> {
    const world = new LayerPowerWorld(await PowerCutDisk.make(type));
    try {
      for (let number = 0; number < archives; number += 1) await world.#makeArchive(number);
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** Lets the clients work, cuts the power, brings it back, and looks at everything that was answered. */
  async cutOnce(moment: Moment, seed: number): Promise<void> {
    const journal = join(this.#scratch, 'journal');
    rmSync(journal, { force: true });
    const task: PowerCutTask = {
      ...{ place: this.#place(), mountPoint: dirname(this.#disk.root), journal, moment, seed },
      archives: this.#archives.map(({ path }) => path),
    };
    const child = new URL('./power-cut-child.ts', import.meta.url).pathname;
    const result = await run(process.execPath, [child, JSON.stringify(task)], { timeoutMs: patienceMs });
    const lines = readFileSync(journal, 'utf8').trimEnd().split('\n');
    const told = readJournal(lines.map(line => JSON.parse(line) as JournalLine));
    expect(lines.filter(line => line.includes('"isAnswered":true')).length, result.stderr).to.be.at.least(
      moment.after,
    );
    await this.#disk.restore();
    this.#boots += 1;
    try {
      await this.#check(told);
    } catch (error) {
      if (error instanceof Error) error.message += `\nThe last calls:\n${tail(lines.join('\n'), 12)}`;
      throw error;
    }
  }

  async close(): Promise<void> {
    try {
      await this.#disk.dispose();
    } finally {
      rmSync(this.#scratch, { recursive: true, force: true });
    }
  }

  async #check({ known, doubtful }: Told): Promise<void> {
    const { store, close } = await openRealStore(this.#place());
    try {
      const infos = new Map((await collect(store.walk())).map(info => [info.name, info]));
      for (const name of infos.keys())
        expect(known.has(name) || doubtful.has(name), `whether anybody asked for ${name}`).to.equal(true);
      for (const layer of known.values()) expectThere(layer, infos, doubtful);
      for (const info of infos.values()) {
        const layer = known.get(info.name) ?? doubtful.get(info.name);
        if (layer !== undefined && info.kind === 'committed') await this.#checkCommitted(store, info, layer);
      }
      await removeAll(store, [...infos.values()]);
      const left = readdirSync(join(this.#disk.root, 'root'));
      expect(left.filter(name => !/^(layers\.json|l|empty|trash)$/.test(name))).to.deep.equal([]);
      expect(readdirSync(join(this.#disk.root, 'root/trash'))).to.deep.equal([]);
      expect(readdirSync(join(this.#disk.root, 'root/l'))).to.deep.equal([]);
    } finally {
      await close();
    }
  }

  /** One that is sound is complete to the byte, and one that is not is refused. */
  async #checkCommitted(store: LayerStore, { name, diffId }: LayerInfo, layer: KnownLayer): Promise<void> {
    const sources = await store.view('look', { parent: name }).catch((error: Error) => error);
    if (sources instanceof Error) {
      expect(sources.message).to.include('damaged');
      expect(layer.isSynced, `${name} is on the disk, and yet ${sources.message}`).to.equal(false);
      return;
    }
    const target = join(this.#scratch, 'look');
    const mounter = new LinuxMounter();
    for (const source of sources) await mounter.mount({ ...source, target });
    try {
      const wanted = this.#treeOf(layer.archives);
      const found = readTree(target, { times: true }).slice(1);
      const wrong = found.filter(line => !wanted.includes(line));
      const missing = wanted.filter(line => !found.includes(line));
      expect({ wrong, missing }, name).to.deep.equal({ wrong: [], missing: [] });
    } finally {
      await mounter.unmount(target);
    }
    await store.remove('look');
    const { problems } = await store.verify(name);
    expect(problems, `verification of ${name}`).to.deep.equal([]);
    // It fails at its end when it is not the archive.
    if (diffId !== null) await collect(await store.original(name));
  }

  /** What layers with these archives show, without the top directory. */
  #treeOf(numbers: readonly number[]): readonly string[] {
    const trees = [...new Set(numbers)].map(number => this.#archives[number]?.tree ?? []);
    const last = this.#archives[numbers.at(-1) ?? -1]?.tree ?? [];
    return [
      ...last.filter(line => line.startsWith(common)),
      ...trees.flat().filter(line => !line.startsWith(common)),
    ].sort(byPath);
  }

  async #makeArchive(number: number): Promise<void> {
    const path = join(this.#scratch, `archive-${number}`);
    const at = `data-${number}`;
    mkdirSync(path);
    change(path, [
      file('common', `of archive ${number}`),
      directory(`${at}/below`, 0o2750),
      ...Array.from({ length: filesOfArchive }, (_, index) => {
        const name = `${at}/${index % 3 === 0 ? 'below/' : ''}file-${index}`;
        return [
          file(name, randomBytes(1 + ((index * 997) % 30_000), number * 1000 + index), 0o600 + (index % 64)),
          chown(name, index * 100, index),
        ];
      }).flat(),
      hardLink(`${at}/file-1`, `${at}/hard`),
      symbolicLink('below', `${at}/soft`),
      time(at, 1_000_000_000),
    ]);
    await must('tar', '--create', '--format=pax', `--file=${path}.tar`, `--directory=${path}`, '.');
    this.#archives.push({ path: `${path}.tar`, tree: readTree(path, { times: true }).slice(1) });
    rmSync(path, { recursive: true });
  }

  #place(): StorePlace {
    return { directory: this.#disk.root, driver: 'overlay', bootId: `boot-${this.#boots}` };
  }
}

function byPath(one: string, other: string): number {
  const [first = '', second = ''] = [one.split(' ')[0], other.split(' ')[0]];
  return first < second ? -1 : 1;
}

/** A call that was asked for and not answered is the last of its client. */
function readJournal(lines: readonly JournalLine[]): Told {
  const clients = [...new Set(lines.map(({ client }) => client))];
  const known = new Map(clients.map(client => [client, new KnownLayers()]));
  const pending = new Map<number, Work>();
  for (const { client, work, isAnswered } of lines) {
    if (!isAnswered) {
      pending.set(client, work);
      continue;
    }
    pending.delete(client);
    known.get(client)?.answered(work);
  }
  const doubts = clients.flatMap(client => {
    const [of, work] = [known.get(client), pending.get(client)];
    return of === undefined || work === undefined ? [] : [{ of, ...of.inDoubt(work) }];
  });
  const doubtful = doubts.flatMap(({ of, there, gone }) => [...there, ...gone.map(name => of.get(name))]);
  return {
    known: new Map([...known.values()].flatMap(of => of.all()).map(layer => [layer.name, layer])),
    doubtful: new Map(doubtful.map(layer => [layer.name, layer])),
  };
}

function expectThere(
  { name, kind }: KnownLayer,
  infos: ReadonlyMap<string, LayerInfo>,
  doubtful: Told['doubtful'],
): void {
  const info = infos.get(name);
  if (info === undefined && doubtful.has(name)) return;
  expect(info?.kind, `kind of ${name}`).to.equal(kind);
}

async function removeAll(store: LayerStore, infos: readonly LayerInfo[]): Promise<void> {
  const left = [...infos];
  while (left.length > 0) {
    const at = left.findIndex(({ name }) => !left.some(({ parent }) => parent === name));
    await store.remove(left.splice(at, 1)[0]?.name ?? '');
  }
  await store.cleanup();
}
