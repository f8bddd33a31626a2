import { GraphLayers, type GraphStore } from '../../src/core/layers/graph.ts';
import { type GraphId, parseGraphId } from '../../src/core/layers/graph-names.ts';
import type { LayerStore } from '../../src/core/layers/layer-store.ts';
import { parseDriverName } from '../../src/core/names.ts';
import { FakeMounter } from '../../src/host/fake/mounter.ts';
import { MemoryStore } from '../../src/store/memory/memory-store.ts';
import { MemoryDisk } from './memory-disk.ts';
import { layerLog, MemoryLayerWorld } from './memory-layer-world.ts';

export const graphId: (raw: string) => GraphId = parseGraphId;
/** Where the layers of {@link GraphWorld} are mounted. */
export const mountPoints = '/varve/graph/varve';

/** A graph driver whose disks and mounts are in memory; they outlive it, and the boot store as well. */
export class GraphWorld {
  readonly layers = new MemoryLayerWorld();
  readonly mounts = new FakeMounter();
  readonly disk = new MemoryDisk();
  readonly bootStore = new MemoryStore();
  /** The mount points that answer no more. */
  dead: readonly string[] = [];
  garbage = 0;
  log: readonly string[] = [];
  /** What the layer store says that it is kept by. */
  driver = 'overlay';
  #graph: GraphLayers | undefined;

  get graph(): GraphLayers {
    if (this.#graph === undefined) throw new Error('start it first');
    return this.#graph;
  }

  get store(): LayerStore {
    return this.layers.store;
  }

  /** As after a restart of the daemon. */
  async start(): Promise<GraphLayers> {
    const store = Object.defineProperty(await this.layers.reopen(), 'driver', { get: () => this.driver });
    const [log, lines] = layerLog();
    this.log = lines;
    this.#graph = new GraphLayers({
      driver: parseDriverName('varve'),
      layerStore: 'docker',
      store: async () => store as GraphStore,
      mounter: this.mounts,
      mountPoints: await this.disk.open(mountPoints, { make: true }),
      bootStore: this.bootStore,
      findDead: async () => this.dead,
      onGarbage: () => {
        this.garbage += 1;
      },
      log,
    });
    return this.#graph;
  }

  /** The ids of the layers that are mounted. */
  async mounted(): Promise<readonly string[]> {
    const prefix = `${mountPoints}/`;
    const points = (await this.mounts.table()).map(({ mountPoint }) => mountPoint);
    return points.filter(point => point.startsWith(prefix)).map(point => point.slice(prefix.length));
  }

  /** All names in the layer store. */
  async names(): Promise<readonly string[]> {
    const found = [];
    for await (const { name } of this.store.walk()) found.push(name);
    return found;
  }
}

/** A graph driver that has just started. */
export async function startGraph(): Promise<GraphWorld> {
  const world = new GraphWorld();
  await world.start();
  return world;
}
