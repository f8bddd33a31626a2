import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import { TestHost } from '../support/host.ts';
import { isLong } from '../support/long.ts';
import { isGapless, pause, pausing, textOf } from '../support/writer.ts';

const count = isLong ? 100 : 8;

/** Counts in a file of its own volume and in one of the shared volume; every line is on disk before the next. */
function pairWriter(name: string): string {
  const [own, shared] = ['/own/log', `/shared/${name}`];
  const write = (file: string) =>
    `echo $n | dd of=${file} oflag=append conv=notrunc,fsync status=none || echo lost $n of ${file}`;
  // The machine has as much to do, however many containers there are.
  const seconds = count / 100;
  return `trap exit TERM; ${pausing}; n=0; while :; do n=$((n+1)); ${write(own)}; ${write(shared)}; ${pause(seconds)}; done`;
}

describe('many containers', function () {
  this.timeout(isLong ? 1_200_000 : 120_000);
  const names = Array.from({ length: count }, (_, at) => `many-${String(at).padStart(3, '0')}`);
  const leaving = names.filter((_, at) => at % 2 === 0);
  const staying = names.filter((_, at) => at % 2 === 1);
  const volumes = ['shared', ...names];
  let host: TestHost;
  let data: ReadonlyMap<string, string>;

  before(async () => {
    host = await TestHost.start({ asksEngine: true });
  });
  after(async () => {
    try {
      await host?.clear();
    } finally {
      await host?.stop();
    }
  });

  /** Acts on all, four at a time: as many as the engine of a small host works on at once. */
  async function forAll(all: readonly string[], act: (name: string) => Promise<unknown>): Promise<void> {
    const waiting = all.values();
    const worker = async () => {
      for (const name of waiting) await act(name);
    };
    await Promise.all(Array.from({ length: 4 }, worker));
  }
  /** What a container wrote: into its own volume, and into the shared one. */
  const written = (name: string): readonly [string, string] => [
    textOf(join(data.get(name) ?? '', 'log')),
    textOf(join(data.get('shared') ?? '', name)),
  ];
  const lineCount = (text: string) => text.split('\n').length - 1;
  const fewestLines = (name: string) => Math.min(...written(name).map(lineCount));
  const untilAllWrite = (all: readonly string[]) => {
    const seen = new Map(all.map(name => [name, fewestLines(name)]));
    return until('all containers to write on', 60_000, () =>
      all.every(name => fewestLines(name) > (seen.get(name) ?? 0) + 1),
    );
  };
  /** Ends a container, which must have lost no write, neither by its own account nor in its files. */
  async function remove(name: string): Promise<void> {
    const before = fewestLines(name);
    await host.docker('stop', '--time', '60', name);
    expect(await host.docker('logs', name)).to.equal('');
    await host.docker('rm', name);
    const texts = written(name);
    expect(texts.map(isGapless), name).to.deep.equal([true, true]);
    const [own = 0, shared = 0] = texts.map(lineCount);
    expect(shared, name).to.be.at.least(before);
    expect(own - shared, `${name} was stopped between its two files`).to.be.within(0, 1);
  }
  const inspect = async (): Promise<readonly VolumeView[]> =>
    JSON.parse((await host.daemon.varve('volume', 'inspect', ...volumes)).stdout) as VolumeView[];

  it(`S5 ${count} containers started together write to volumes of their own, and to one that all share`, async () => {
    await forAll(volumes, name => host.createVolume(name));
    await forAll(names, name =>
      host.startContainer(name, ['-v', `${name}:/own`, '-v', 'shared:/shared'], pairWriter(name)),
    );
    const views = await host.volumes();
    data = new Map(
      views.map(({ name, number }) => [name, `${host.daemon.root}/pools/default/${number}/data`]),
    );
    await untilAllWrite(names);
    const consumers = new Map((await inspect()).map(view => [view.name, view.consumers.length]));
    expect(consumers).to.deep.equal(new Map([['shared', count], ...names.map(name => [name, 1] as const)]));
  });

  it('S5 half of them go, and the daemon is killed meanwhile: the others write on', async () => {
    let gone = 0;
    let isOver = false;
    const removal = forAll(leaving, async name => {
      await remove(name);
      gone++;
    }).finally(() => {
      isOver = true;
    });
    const crash = async () => {
      await until('some containers to be gone', 300_000, () => isOver || gone >= leaving.length / 4);
      await host.daemon.kill9();
      await untilAllWrite(staying);
      await host.daemon.start();
    };
    await Promise.all([removal, crash()]);
    expect(gone).to.equal(leaving.length);
    await untilAllWrite(staying);
    for (const name of staying)
      expect((await host.sh(name, 'cat /own/log')).startsWith('1\n2\n')).to.equal(true);
  });

  it('S5 when the last has gone, no consumer is left but those whose Unmount the crash cut off, and every volume can be removed', async () => {
    await forAll(staying, remove);
    await until('the volumes to have no consumers that are sure', 30_000, async () =>
      (await inspect()).every(({ name, consumers }) =>
        staying.includes(name) ? consumers.length === 0 : consumers.every(({ confirmed }) => !confirmed),
      ),
    );
    for (const name of names) expect(written(name).map(isGapless), name).to.deep.equal([true, true]);
    await forAll(volumes, name => host.docker('volume', 'rm', name));
    expect(await host.volumes()).to.deep.equal([]);
    expect(host.mounts()).to.deep.equal([]);
    await until('the removed volumes to leave the pool', 30_000, () => host.onDisk().length === 0);
  });
});
