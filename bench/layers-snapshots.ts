/** Snapshots and clones of a large stack. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '../scripts/lib/process.ts';
import { alone, compare, median, milliseconds, type Row } from './compare.ts';
import { openBenchStore } from './layers-store.ts';

const runs = 7;
const gibibyte = 2 ** 30;
const layers = 10;

/**
 * @param directory on a file system for this driver alone @param gibibytes of the stack: the files have their space
 * and hold no data, which would take minutes to write and changes nothing
 */
export async function benchSnapshots(directory: string, driver: string, gibibytes: number): Promise<Row[]> {
  const bench = await openBenchStore(directory, driver);
  try {
    for (let layer = 0; layer < layers; layer += 1) {
      await bench.mounting(await bench.store.prepare('key', under(layer)), path =>
        reserve(join(path, `file-${layer}`), (gibibytes * gibibyte) / layers),
      );
      await bench.store.commit(`layer-${layer}`, 'key');
    }
    const [freezes, clones] = [[] as number[], [] as number[]];
    await bench.store.prepare('volume', under(layers));
    for (let run = 0; run < runs; run += 1) {
      await bench.mounting(await bench.store.mounts('volume'), path =>
        reserve(join(path, `more-${run}`), 4096),
      );
      await must('sync', []);
      freezes.push(await milliseconds(() => bench.store.freeze('volume', `snapshot-${run}`)));
      clones.push(
        await milliseconds(() => bench.store.prepare(`clone-${run}`, { parent: `snapshot-${run}` })),
      );
    }
    const [work, limit] = [`${gibibytes}g-${driver}`, driver === 'copy' ? undefined : 50];
    return [
      alone(`layer-snapshot-${work}`, median(freezes), 'ms', limit, runs),
      alone(`layer-clone-${work}`, median(clones), 'ms', limit, runs),
    ];
  } finally {
    await bench.close();
  }
}

/** A clone of one real GiB beside what a user would do without layers. */
export async function benchClone(directory: string, driver: string, mebibytes: number): Promise<Row> {
  const bench = await openBenchStore(join(directory, 'varve'), driver);
  try {
    let original = '';
    await bench.mounting(await bench.store.prepare('key'), async path => {
      await must('dd', ['if=/dev/urandom', `of=${path}/file`, 'bs=1M', `count=${mebibytes}`]);
      original = join(directory, 'original');
      await must('cp', ['-a', path, original]);
    });
    await bench.store.commit('base', 'key');
    let count = 0;
    const next = (name: string): string => {
      count += 1;
      return `${name}-${count}`;
    };
    return await compare({
      ...{ work: `layer-clone-1g-real-${driver}`, against: 'cp -a', unit: 'ms', better: 'lower' },
      runs: 3,
      ours: () => milliseconds(() => bench.store.prepare(next('clone'), { parent: 'base' })),
      theirs: () => milliseconds(() => must('cp', ['-a', '--reflink=never', original, next(original)])),
    });
  } finally {
    await bench.close();
  }
}

function under(layer: number): { readonly parent?: string } {
  return layer === 0 ? {} : { parent: `layer-${layer - 1}` };
}

async function reserve(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'wx');
  await file.close();
  await must('fallocate', ['--length', `${bytes}`, path]);
}
