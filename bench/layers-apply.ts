/** Unpacking one large layer: ours, containerd's, dockerd's and GNU tar's way, in turn. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { must } from '../scripts/lib/process.ts';
import { TestContainerd } from '../test/support/containerd.ts';
import { startEngine, type TestEngine } from '../test/support/engine.ts';
import { type ImageArchive, makeImageArchive } from '../test/support/image-archive.ts';
import { alone, atMost, milliseconds, type Row, rowOf } from './compare.ts';
import { makeArchive } from './layers-archive.ts';
import { type BenchStore, openBenchStore } from './layers-store.ts';

const runs = 2;

/** Ways to unpack the archive; each leaves what it made where it is. @returns the time, in ms */
interface Ways {
  readonly ours: (run: string) => Promise<number>;
  readonly durable: (run: string) => Promise<number>;
  readonly copied: (run: string) => Promise<number>;
  readonly containerd: (run: string) => Promise<number>;
  readonly dockerd: (run: string) => Promise<number>;
  readonly tar: (run: string) => Promise<number>;
}

/** @param directory on the file system that all of them use */
export async function benchApply(directory: string): Promise<Row[]> {
  const archive = await makeArchive(directory, 'layer', { entries: 50_000, bytes: 500e6 });
  const small = await makeArchive(directory, 'small', { entries: 2_000, bytes: 1_000_000 });
  const store = await openBenchStore(join(directory, 'varve'), 'overlay');
  const containerd = await TestContainerd.start();
  const engine = await startEngine();
  const blocked: number[] = [];
  try {
    const image = await makeImageArchive(join(directory, 'image.tar'), 'docker.io/varve/bench:1', [archive]);
    const samples = await measure({
      ...ourWays(store, { archive, small, copy: join(directory, 'copy.tar') }, blocked),
      containerd: run => unpackInContainerd(containerd, image, run),
      dockerd: run => loadIntoDocker(engine, directory, archive, run),
      tar: run => unpackWithTar(archive, join(directory, `tar-${run}`)),
    });
    return [
      ...rowsOf(samples),
      alone('layer-apply-main-thread-blocked', Math.max(...blocked), 'ms', 50, blocked.length),
    ];
  } finally {
    await engine.stop();
    await containerd.stop();
    await store.close();
  }
}

type Samples = Readonly<Record<keyof Ways, readonly number[]>> & {
  /** Those of the others, measured a second time in each round. */
  readonly again: Readonly<Record<keyof Ways, readonly number[]>>;
};

/** One round to warm up, then ours between twice theirs. */
async function measure(ways: Ways): Promise<Samples> {
  const empty = (): Record<keyof Ways, number[]> => ({
    ...{ ours: [], durable: [], copied: [], containerd: [], dockerd: [], tar: [] },
  });
  const [first, again] = [empty(), empty()];
  const one = async (name: keyof Ways, run: string): Promise<number> => {
    // What the one before it wrote is not to be written out at the expense of this one.
    await must('sync', []);
    return ways[name](`${name}-${run}`);
  };
  const [theirs, ours] = [['containerd', 'dockerd', 'tar'] as const, ['ours', 'durable', 'copied'] as const];
  for (const name of [...theirs, ...ours]) await one(name, 'warm');
  for (let run = 0; run < runs; run += 1) {
    for (const name of theirs) first[name].push(await one(name, `${run}`));
    for (const name of ours) first[name].push(await one(name, `${run}`));
    for (const name of theirs) again[name].push(await one(name, `${run}-again`));
  }
  return { ...first, again };
}

function rowsOf(samples: Samples): Row[] {
  const row = (
    work: string,
    our: 'ours' | 'durable' | 'copied',
    their: 'containerd' | 'dockerd' | 'tar',
    limit?: number,
  ) => {
    const against = { containerd: 'containerd overlayfs', dockerd: 'docker load', tar: 'tar + sha256sum' };
    const goal = limit === undefined ? {} : { goal: atMost(limit) };
    return rowOf(
      { work, against: against[their], unit: 'ms', runs, better: 'lower', ...goal },
      { ours: samples[our], theirs: samples[their], again: samples.again[their] },
    );
  };
  return [
    row('layer-apply', 'ours', 'containerd', 0.6),
    row('layer-apply-durable', 'durable', 'containerd', 1),
    row('layer-apply', 'ours', 'dockerd', 0.6),
    row('layer-apply-durable', 'durable', 'dockerd', 1),
    row('layer-apply-and-copy-archive', 'copied', 'dockerd'),
    row('layer-apply', 'ours', 'tar'),
  ];
}

/**
 * From nothing to a committed layer, digest included; `durable` with its data on the disk.
 * @param blocked is told the longest time, in ms, for which the main thread was busy in each run
 */
function ourWays(
  { store }: BenchStore,
  { archive, small, copy }: { readonly archive: string; readonly small: string; readonly copy: string },
  blocked: number[],
): Pick<Ways, 'ours' | 'durable' | 'copied'> {
  const unpack = async (name: string, path: string, sync: boolean) => {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await store.prepare(`${name} in the making`);
    await store.apply(`${name} in the making`, { path });
    await store.commit(name, `${name} in the making`, { sync });
    delay.disable();
    blocked.push(delay.max / 1e6);
  };
  // The worker threads run already, as the daemons of the others do.
  const timed = async (run: string, act: () => Promise<void>): Promise<number> => {
    await store.prepare(`before ${run}`);
    await store.apply(`before ${run}`, { path: small });
    return milliseconds(act);
  };
  return {
    ours: run => timed(run, () => unpack(run, archive, false)),
    durable: run => timed(run, () => unpack(run, archive, true)),
    copied: run =>
      timed(run, async () => {
        await copyFile(archive, copy);
        await unpack(run, copy, false);
      }),
  };
}

/** From a blob in its content store to a committed snapshot; a namespace knows nothing of those of the others. */
async function unpackInContainerd(
  containerd: TestContainerd,
  { path, manifest }: ImageArchive,
  run: string,
): Promise<number> {
  await containerd.ctr('--namespace', run, 'images', 'import', '--no-unpack', '--digests', path);
  return milliseconds(() => containerd.ctr('--namespace', run, 'snapshots', 'unpack', manifest));
}

/** Dockerd copies the layer out of the archive, then unpacks it. On another layer each time, it does so anew. */
async function loadIntoDocker(
  engine: TestEngine,
  directory: string,
  archive: string,
  run: string,
): Promise<number> {
  const below = join(directory, `${run}.tar`);
  await writeFile(join(directory, run), '');
  await must('tar', ['--create', `--file=${below}`, `--directory=${directory}`, run]);
  const base = await makeImageArchive(join(directory, 'base.tar'), `base:${run}`, [below]);
  const both = await makeImageArchive(join(directory, 'both.tar'), `both:${run}`, [below, archive]);
  await load(engine, base);
  await must('sync', []);
  return milliseconds(() => load(engine, both));
}

async function load(engine: TestEngine, { path }: ImageArchive): Promise<void> {
  const { exitCode, stderr } = await engine.docker('load', '--quiet', '--input', path);
  if (exitCode !== 0) throw new Error(`docker load: ${stderr}`);
}

/** Without a digest tar would not do the same work; it cannot compute one on the way. */
async function unpackWithTar(archive: string, target: string): Promise<number> {
  await mkdir(target);
  const words = ['--extract', '--numeric-owner', '--xattrs', '--xattrs-include=*'];
  return milliseconds(async () => {
    await must('tar', [...words, `--file=${archive}`, `--directory=${target}`]);
    await must('sha256sum', [archive]);
  });
}
