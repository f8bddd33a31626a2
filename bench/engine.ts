/**
 * Whole engines that store on varve beside the same engines that store as they come: loading an image, a container from
 * start to end, commit and diff, removal. Each on a new file system in a file on the real disk.
 */
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { busyboxTar } from '../scripts/lib/busybox.ts';
import { must } from '../scripts/lib/process.ts';
import { engineBin, hasEngine } from '../scripts/lib/suite-engines.ts';
import { makeImageArchive } from '../test/support/image-archive.ts';
import { alone, atMost, compare, milliseconds, type Row, rowOf } from './compare.ts';
import { type BenchEngine, openGraphs, openImageStores, type Programs, type Sides } from './engine-sides.ts';
import { makeArchive } from './layers-archive.ts';
import { onNewDisk } from './layers-store.ts';

const [loads, containers, wideRuns] = [3, 30, 5];

/** Each by its name. */
export const engineBenches: Readonly<Record<string, () => AsyncGenerator<Row>>> = {
  'engine-graph-installed': () => bench('graph-installed', undefined, openGraphs),
  'engine-graph-trixie': () => bench('graph-trixie', 'trixie', openGraphs),
  'engine-snapshotter-trixie': () => bench('snapshotter-trixie', 'trixie', openImageStores),
  'engine-snapshotter-sid': () => bench('snapshotter-sid', 'sid', openImageStores),
};

/** @param suite of the engine; without it, the installed one */
async function* bench(
  name: string,
  suite: string | undefined,
  open: (programs: Programs) => Promise<Sides>,
): AsyncGenerator<Row> {
  if (suite !== undefined && !hasEngine(suite)) {
    console.error(`bench: no rows of ${name}; scripts/engines fetch ${suite} gets its engine`);
    return;
  }
  const programs = suite === undefined ? {} : { binDir: engineBin(suite) };
  for (const measure of [benchLoads, benchContainers, benchChanges]) {
    yield* await onNewDisk('ext4', 60, async directory => {
      const sides = await open(programs);
      return await measure(name, sides, directory).finally(() => sides.close());
    });
  }
}

/** Ours without waiting for the disk, ours with, and theirs, which never waits; another image each time. */
async function benchLoads(name: string, sides: Sides, directory: string): Promise<Row[]> {
  const { later, durable, theirs, memory } = sides;
  const layer = await makeArchive(directory, 'layer', { entries: 50_000, bytes: 500e6 });
  const times = { own: [] as number[], safe: [] as number[], first: [] as number[], again: [] as number[] };
  let count = 0;
  const load = async (engine: BenchEngine): Promise<number> => {
    count += 1;
    const archive = await uniqueImage(directory, layer, `load-${count}`);
    // What the one before it wrote is not to be written out at the expense of this one.
    await must('sync', []);
    const time = await milliseconds(() => engine.docker('load', '--quiet', '--input', archive));
    await rm(archive);
    return time;
  };
  for (const engine of [theirs, durable, ...(later === undefined ? [] : [later])]) await load(engine);
  for (let run = 0; run < loads; run += 1) {
    times.first.push(await load(theirs));
    if (later !== undefined) times.own.push(await load(later));
    times.safe.push(await load(durable));
    times.again.push(await load(theirs));
  }
  const row = (work: string, samples: readonly number[], limit: number) =>
    rowOf(
      {
        ...{ work: `${work}-${name}`, against: theirs.name, unit: 'ms', runs: loads, better: 'lower' },
        goal: atMost(limit),
      },
      { ours: samples, theirs: times.first, again: times.again },
    );
  return [
    ...(later === undefined ? [] : [row('engine-load', times.own, 0.7)]),
    row('engine-load-durable', times.safe, 1),
    alone(`engine-load-memory-${name}`, memory(), 'MiB', undefined, 1),
  ];
}

/** An image that nobody has seen: the layer with one more file. */
async function uniqueImage(directory: string, layer: string, name: string): Promise<string> {
  const place = join(directory, name);
  await mkdir(place);
  await copyFile(layer, join(place, 'layer.tar'));
  await writeFile(join(place, 'unique'), name);
  await must('tar', ['--append', '--file', join(place, 'layer.tar'), '--directory', place, 'unique']);
  const image = join(directory, `${name}.tar`);
  await makeImageArchive(image, `docker.io/varve/${name}:1`, [join(place, 'layer.tar')]);
  await rm(place, { recursive: true });
  return image;
}

/** A container of a small image from its start to its end, and its removal. */
async function benchContainers(name: string, { durable: ours, theirs }: Sides): Promise<Row[]> {
  const removals = new Map<BenchEngine, number[]>([
    [ours, []],
    [theirs, []],
  ]);
  let count = 0;
  const once = async (engine: BenchEngine): Promise<number> => {
    count += 1;
    const container = `bench-${count}`;
    const time = await milliseconds(() =>
      engine.docker('run', '--name', container, '--network', 'none', 'busybox', 'true'),
    );
    const removal = await milliseconds(() => engine.api('DELETE', `/containers/${container}`));
    removals.get(engine)?.push(removal);
    return time;
  };
  const against = { against: theirs.name, unit: 'ms', runs: containers, better: 'lower' } as const;
  const started = await compare({
    ...{ work: `engine-start-stop-${name}`, ...against, goal: atMost(1.02) },
    ours: () => once(ours),
    theirs: () => once(theirs),
  });
  const other = removals.get(theirs) ?? [];
  const everySecond = (from: number) => other.filter((_, at) => at % 2 === from);
  const removed = rowOf(
    { work: `engine-rm-${name}`, ...against },
    { ours: removals.get(ours) ?? [], theirs: everySecond(0), again: everySecond(1) },
  );
  return [started, removed];
}

const changeTen =
  'for n in 0 1 2 3 4 5 6 7 8 9; do echo changed > /part-0/directory-$n/file-$((n * 10)); done';

/** Commit and diff of a container with ten changed files on an image of 100 000. */
async function benchChanges(
  name: string,
  { durable: ours, theirs }: Sides,
  directory: string,
): Promise<Row[]> {
  const entries = 100_000;
  const wide = await makeArchive(directory, 'wide', { entries, bytes: 64 * entries });
  const [image, base] = [join(directory, 'wide-image.tar'), join(directory, 'busybox.tar')];
  await copyFile(await busyboxTar(), base);
  await makeImageArchive(image, 'docker.io/varve/wide:1', [base, wide]);
  for (const engine of [ours, theirs]) {
    await engine.docker('load', '--quiet', '--input', image);
    await engine.docker('run', '--name', 'wide', '--network', 'none', 'varve/wide:1', 'sh', '-c', changeTen);
  }
  const row = (work: string, act: (engine: BenchEngine) => Promise<unknown>) =>
    compare({
      ...{ work: `${work}-10-of-100000-${name}`, against: theirs.name, unit: 'ms', runs: wideRuns },
      ...{ better: 'lower', goal: atMost(0.1) },
      ours: () => milliseconds(() => act(ours)),
      theirs: () => milliseconds(() => act(theirs)),
    });
  let count = 0;
  return [
    await row('engine-diff', engine => engine.api('GET', '/containers/wide/changes')),
    await row('engine-commit', engine => {
      count += 1;
      return engine.api('POST', `/commit?container=wide&repo=committed&tag=${count}`);
    }),
  ];
}
