/** Volumes of pool `default` against Docker's `local` driver, on one engine and one file system. */
import { readFileSync } from 'node:fs';
import { must } from '../scripts/lib/process.ts';
import { startDaemon, type TestDaemon } from '../test/support/daemon.ts';
import { startEngine, type TestEngine } from '../test/support/engine.ts';
import { alone, atMost, compare, median, milliseconds, percentile, type Row } from './compare.ts';
import { askEngine } from './engine-api.ts';

/** All rows; engine and daemon are started for them and leave nothing. */
export async function* benchVolume(): AsyncGenerator<Row> {
  const engine = await startEngine();
  try {
    const daemon = await startDaemon({
      faultPoints: false,
      config: { engine: engine.dockerHost, intervals: { reconcileSeconds: 30 } },
    });
    try {
      yield* await lifecycle(engine, daemon);
      yield* await containers(engine, daemon);
      yield* await inside(engine, daemon);
      yield* await socket(daemon);
      yield* await thousand(daemon);
    } finally {
      await daemon.stop();
      await daemon.dispose();
    }
  } finally {
    await engine.stop();
  }
}

async function lifecycle(engine: TestEngine, { driver }: TestDaemon): Promise<Row[]> {
  let count = 0;
  const overApi = (name: string) => async (): Promise<number> => {
    const volume = `api-${++count}`;
    return milliseconds(async () => {
      await askEngine(engine.socket, 'POST', '/volumes/create', { Name: volume, Driver: name });
      await askEngine(engine.socket, 'DELETE', `/volumes/${volume}`);
    });
  };
  const byCommand = (name: string) => async (): Promise<number> => {
    const volume = `cli-${++count}`;
    return milliseconds(async () => {
      await engine.docker('volume', 'create', '-d', name, volume);
      await engine.docker('volume', 'rm', volume);
    });
  };
  return [
    await compare({
      ...{ work: 'volume-create-rm-api', against: 'docker local', unit: 'ms', runs: 100, better: 'lower' },
      goal: {
        text: '<= 5 ms more',
        isMet: ({ ours, theirs, band }) => ours - theirs <= 5 * band,
      },
      ours: overApi(driver),
      theirs: overApi('local'),
    }),
    await compare({
      ...{ work: 'volume-create-rm-cli', against: 'docker local', unit: 'ms', runs: 30, better: 'lower' },
      goal: atMost(1.2),
      ours: byCommand(driver),
      theirs: byCommand('local'),
    }),
  ];
}

async function containers(engine: TestEngine, { driver }: TestDaemon): Promise<Row[]> {
  const start = async (name: string): Promise<() => Promise<number>> => {
    await engine.docker('volume', 'create', '-d', name, `start-${name}`);
    const volume = `type=volume,source=start-${name},target=/data,volume-driver=${name}`;
    return () =>
      milliseconds(() =>
        engine.docker('run', '--rm', '--network', 'none', '--mount', volume, 'busybox', 'true'),
      );
  };
  return [
    await compare({
      ...{ work: 'container-start-stop', against: 'docker local', unit: 'ms', runs: 30, better: 'lower' },
      goal: atMost(1.05),
      ours: await start(driver),
      theirs: await start('local'),
    }),
  ];
}

/** Each kind of fio work; the volume is written as a container would write it, at its mount point. */
const jobs = [
  { work: 'volume-fio-seq-write', args: ['--rw=write', '--bs=1M', '--size=256M', '--end_fsync=1'] },
  { work: 'volume-fio-seq-read', args: ['--rw=read', '--bs=1M', '--size=256M'] },
  {
    work: 'volume-fio-rand-write',
    args: ['--rw=randwrite', '--bs=4k', '--size=64M', '--fsync=32', '--runtime=3', '--time_based'],
  },
  {
    work: 'volume-fio-rand-read',
    args: ['--rw=randread', '--bs=4k', '--size=64M', '--runtime=3', '--time_based'],
  },
] as const;

async function inside(engine: TestEngine, { driver }: TestDaemon): Promise<Row[]> {
  const sides = { ours: await mountedVolume(engine, driver), theirs: await mountedVolume(engine, 'local') };
  const rows: Row[] = [];
  for (const { work, args } of jobs) {
    const measure = (directory: string) => (): Promise<number> => fio(directory, work, args);
    rows.push(
      await compare({
        ...{ work, against: 'docker local', unit: 'MiB/s', runs: 7, better: 'higher' },
        goal: atMost(1.02),
        ours: measure(sides.ours),
        theirs: measure(sides.theirs),
      }),
    );
  }
  await engine.docker('rm', '-f', `hold-${driver}`, 'hold-local');
  return rows;
}

/** A volume that a container holds mounted, seen through that container's root. @returns its directory there */
async function mountedVolume(engine: TestEngine, name: string): Promise<string> {
  const container = `hold-${name}`;
  await engine.docker('volume', 'create', '-d', name, `fio-${name}`);
  const mount = `type=volume,source=fio-${name},target=/data,volume-driver=${name}`;
  await engine.docker(
    'run',
    '-d',
    '--name',
    container,
    '--network',
    'none',
    '--mount',
    mount,
    'busybox',
    'sleep',
    '1d',
  );
  const { stdout } = await engine.docker('inspect', '--format', '{{.State.Pid}}', container);
  return `/proc/${stdout.trim()}/root/data`;
}

async function fio(directory: string, name: string, args: readonly string[]): Promise<number> {
  const common = [
    '--name',
    name,
    '--directory',
    directory,
    '--output-format=json',
    '--unlink=1',
    '--invalidate=1',
    '--ioengine=psync',
  ];
  const { stdout } = await must('fio', [...common, ...args], { timeoutMs: 300_000 });
  const { jobs: results } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
    jobs: { read: { bw_bytes: number }; write: { bw_bytes: number } }[];
  };
  const [job] = results;
  return ((job?.read.bw_bytes ?? 0) + (job?.write.bw_bytes ?? 0)) / 2 ** 20;
}

async function socket({ driver, plugin }: TestDaemon): Promise<Row[]> {
  const runs = 2000;
  await plugin('VolumeDriver.Create', { Name: 'socket', Opts: null });
  const times: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    const body = { Name: 'socket', ID: `${driver}-${run}` };
    times.push(
      await milliseconds(async () => {
        await plugin('VolumeDriver.Mount', body);
        await plugin('VolumeDriver.Unmount', body);
      }),
    );
  }
  await plugin('VolumeDriver.Remove', { Name: 'socket' });
  return [
    alone('socket-mount-unmount-p50', percentile(times, 50), 'ms', 1, runs),
    alone('socket-mount-unmount-p99', percentile(times, 99), 'ms', 5, runs),
  ];
}

async function thousand(daemon: TestDaemon): Promise<Row[]> {
  for (let number = 0; number < 1000; number += 1) {
    await daemon.plugin('VolumeDriver.Create', { Name: `many-${number}`, Opts: null });
  }
  const times: number[] = [];
  for (let run = 0; run < 5; run += 1) {
    await daemon.stop();
    times.push(await milliseconds(() => daemon.start()));
  }
  await daemon.plugin('VolumeDriver.List', {});
  const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8');
  const rss = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  return [
    alone('daemon-rss-1000-volumes', rss, 'MiB', 95.4, 1),
    alone('daemon-ready-1000-volumes', median(times), 'ms', 500, times.length),
  ];
}
