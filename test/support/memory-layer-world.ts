import type { Archive } from '../../src/core/layers/layer-store.ts';
import { openLayerStore } from '../../src/core/layers/open.ts';
import type { Layers } from '../../src/core/layers/store.ts';
import { parseLayerStoreName } from '../../src/core/names.ts';
import type { ObjectStore } from '../../src/core/ports.ts';
import { FakeClock } from '../../src/host/fake/clock.ts';
import type { Logger } from '../../src/lib/log.ts';
import { MemoryStore } from '../../src/store/memory/memory-store.ts';
import type { LayerRecordsWorld } from './layer-world.ts';
import { MemoryLayerDisk } from './memory-layer-disk.ts';
import { Power } from './power.ts';

/** A log that keeps what is written to it, such as `warn: text`. */
export function layerLog(): [Logger, readonly string[]] {
  const lines: string[] = [];
  const write = (level: string) => (message: unknown) => {
    lines.push(`${level}: ${String(message)}`);
    return log;
  };
  const log = {
    ...{ error: write('error'), warn: write('warn') },
    ...{ info: write('info'), debug: write('debug') },
  } as unknown as Logger;
  return [log, lines];
}

/** What outlives a run of a layer store: its disk, its records and the time. */
export class MemoryLayerWorld implements LayerRecordsWorld {
  readonly disk: MemoryLayerDisk;
  readonly clock = new FakeClock();
  records: ObjectStore = new MemoryStore();
  bootId = 'boot-1';
  /** Of the present run; the next one ends it. */
  power = new Power();
  /** What the last start wrote to its log. */
  log: readonly string[] = [];
  #store: Layers | undefined;

  constructor(disk = new MemoryLayerDisk()) {
    this.disk = disk;
  }

  get store(): Layers {
    if (this.#store === undefined) throw new Error('open it first');
    return this.#store;
  }

  async reopen(): Promise<Layers> {
    this.power.cut();
    const [log, lines] = layerLog();
    this.log = lines;
    this.power = new Power();
    const [records, disk] = [this.power.supply(this.records), this.power.supply(this.disk)];
    const { clock, bootId } = this;
    const name = parseLayerStoreName('test');
    this.#store = await openLayerStore({ name, store: records, disk, clock, bootId, log });
    return this.#store;
  }

  async close(): Promise<void> {
    this.power.cut();
  }
}

/** An archive of the fake disk: its lines become what the layer holds. */
export async function* archiveOfLines(...lines: readonly string[]): Archive & AsyncGenerator<Uint8Array> {
  yield Buffer.from(lines.join('\n'));
}

export async function openMemoryLayers(): Promise<MemoryLayerWorld> {
  const world = new MemoryLayerWorld();
  await world.reopen();
  return world;
}
