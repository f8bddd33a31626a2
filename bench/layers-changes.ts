/** What is done to layers that are there: differences, and what has to be fast whatever their size. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '../scripts/lib/process.ts';
import { TestContainerd } from '../test/support/containerd.ts';
import { type ImageArchive, makeImageArchive } from '../test/support/image-archive.ts';
import { alone, compare, median, milliseconds, type Row } from './compare.ts';
import { makeArchive } from './layers-archive.ts';
import { type BenchStore, openBenchStore } from './layers-store.ts';

const runs = 7;

/** @param directory on the file system that all of them use */
export async function benchChanges(directory: string): Promise<Row[]> {
  const bench = await openBenchStore(join(directory, 'varve'), 'overlay');
  const containerd = await TestContainerd.start();
  try {
    const entries = 100_000;
    const archive = await makeArchive(directory, 'wide', { entries, bytes: 64 * entries });
    const image = await makeImageArchive(join(directory, 'wide-image.tar'), 'docker.io/varve/wide:1', [
      archive,
    ]);
    return [
      await difference(bench, containerd, archive, image),
      ...(await wholeLayer(bench, directory)),
      await list(bench, 1000),
    ];
  } finally {
    await containerd.stop();
    await bench.close();
  }
}

/** The archive of ten changed files over a large layer. Theirs includes the start of `ctr`. */
async function difference(
  bench: BenchStore,
  containerd: TestContainerd,
  archive: string,
  { path, manifest, diffIds }: ImageArchive,
): Promise<Row> {
  const { store } = bench;
  await commit(bench, 'wide', archive, false);
  await bench.mounting(await store.prepare('ten', { parent: 'wide' }), changeTen);
  await containerd.ctr('images', 'import', '--no-unpack', '--digests', path);
  await containerd.ctr('snapshots', 'unpack', manifest);
  await containerd.ctr('snapshots', 'prepare', 'ten', diffIds[0] ?? '');
  const point = join(containerd.root, '../ten');
  mkdirSync(point);
  const [program = '', ...words] = (await containerd.ctr('snapshots', 'mounts', point, 'ten')).split(' ');
  await must(program, words);
  changeTen(point);
  await must('umount', [point]);
  return await compare({
    ...{ work: 'layer-diff-10-of-100000', against: 'ctr snapshots diff', unit: 'ms', runs, better: 'lower' },
    goal: { text: '<= 20 ms', isMet: ({ ours }) => ours <= 20 },
    ours: () => milliseconds(async () => drain(await store.diff('wide', 'ten'))),
    theirs: () => milliseconds(() => containerd.ctr('snapshots', 'diff', 'ten')),
  });
}

/** In ten directories. */
function changeTen(root: string): void {
  for (let number = 0; number < 10; number += 1) {
    writeFileSync(join(root, 'part-0', `directory-${number}`, `file-${10 * number}`), `changed ${number}`);
  }
}

async function drain(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of bytes);
}

/** What the parts of an unpacking cost, and what comes after it. */
async function wholeLayer(bench: BenchStore, directory: string): Promise<Row[]> {
  const { store } = bench;
  const bytes = 500e6;
  const archive = await makeArchive(directory, 'layer', { entries: 50_000, bytes });
  const times = { commit: [] as number[], durable: [] as number[], verify: [] as number[] };
  const count = 3;
  for (let run = 0; run < count; run += 1) {
    times.commit.push(await commit(bench, `fast-${run}`, archive, false));
    await must('sync', []);
    times.durable.push(await commit(bench, `durable-${run}`, archive, true));
    times.verify.push(await milliseconds(() => store.verify(`durable-${run}`)));
  }
  const removal = await milliseconds(async () => {
    await store.remove('durable-0');
    await store.cleanup();
  });
  return [
    alone('layer-commit', median(times.commit), 'ms', undefined, count),
    alone('layer-commit-durable', median(times.durable), 'ms', undefined, count),
    alone('layer-verify', bytes / 2 ** 20 / (median(times.verify) / 1000), 'MiB/s', undefined, count),
    alone('layer-remove-cleanup', removal, 'ms', undefined, 1),
  ];
}

/** @returns how long the commit took, in ms */
async function commit({ store }: BenchStore, name: string, path: string, sync: boolean): Promise<number> {
  await store.prepare(`${name} in the making`);
  await store.apply(`${name} in the making`, { path });
  return milliseconds(() => store.commit(name, `${name} in the making`, { sync }));
}

async function list({ store }: BenchStore, count: number): Promise<Row> {
  for (let number = 0; number < count; number += 1) await store.prepare(`many-${number}`);
  const times: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    times.push(
      await milliseconds(async () => {
        for await (const _ of store.walk());
      }),
    );
  }
  return alone('layer-list-1000', median(times), 'ms', 20, runs);
}
