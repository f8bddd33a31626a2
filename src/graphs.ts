/** Which parts a graph driver is made of. */
import { join } from 'node:path';
import type { Config } from './config/schema.ts';
import { GraphLayers } from './core/layers/graph.ts';
import type { LayerStores } from './core/layers/stores.ts';
import { parseDriverName } from './core/names.ts';
import type { ObjectStore } from './core/ports.ts';
import { messageOf } from './errors/errors.ts';
import { LinuxDisk } from './host/linux/disk.ts';
import { findDeadFuseMounts } from './host/linux/fuse-servers.ts';
import { LinuxMounter } from './host/linux/mounter.ts';
import type { Cleanup } from './lib/cleanup.ts';
import type { RootLogger } from './lib/log.ts';

/** The layers of engines that have varve as their storage driver, by the name of the driver. */
export interface Graphs {
  of(driver: string): GraphLayers | undefined;
  tidy(): Promise<void>;
  /** From now on `act` is told when layers were removed. */
  onGarbage(act: () => void): void;
}

export async function composeGraphs(
  config: Config,
  stores: LayerStores,
  bootStore: ObjectStore,
  log: RootLogger,
  cleanup: Cleanup,
): Promise<Graphs> {
  const graphs = new Map<string, GraphLayers>();
  let tellGarbage = (): void => {};
  for (const [name, { layerStore }] of Object.entries(config.drivers)) {
    if (layerStore === undefined) continue;
    const path = join(config.root, 'graph', name);
    const mountPoints = await new LinuxDisk().open(path, { make: true });
    cleanup.defer(() => mountPoints.close());
    const graph = new GraphLayers({
      ...{ driver: parseDriverName(name), layerStore, mountPoints, bootStore },
      store: () => stores.get(layerStore),
      mounter: new LinuxMounter(),
      findDead: () => findDeadFuseMounts(path),
      onGarbage: () => tellGarbage(),
      log: log.child({ part: name }),
    });
    graphs.set(name, graph);
  }
  return {
    of: driver => graphs.get(driver),
    async tidy() {
      for (const [name, graph] of graphs) {
        await graph.tidy().catch(error => log.warn(`the layers of ${name}: ${messageOf(error)}`));
      }
    },
    onGarbage: act => {
      tellGarbage = act;
    },
  };
}
