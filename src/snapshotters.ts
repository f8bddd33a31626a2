/** Which parts serve an engine's containerd. */
import type { Config, LayerStoreConfig } from './config/schema.ts';
import { type ContainerEngine, ContainerLimits } from './core/layers/container-limits.ts';
import type { LayerStores } from './core/layers/stores.ts';
import { parseSize } from './core/quantity.ts';
import { systemClock } from './host/linux/clock.ts';
import { Containerd } from './host/linux/containerd.ts';
import { peerPid } from './host/linux/peer.ts';
import type { Cleanup } from './lib/cleanup.ts';
import type { RootLogger } from './lib/log.ts';
import { diffHandlers } from './servers/containerd/diff.ts';
import { Fills } from './servers/containerd/fills.ts';
import type { ContainerdParts } from './servers/containerd/parts.ts';
import { snapshotHandlers } from './servers/containerd/snapshots.ts';
import { GrpcServer } from './servers/grpc/server.ts';
import { Diff } from './wire/gen/containerd/services/diff/v1/diff_pb.ts';
import { Snapshots } from './wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';

/** The snapshotters of the configuration. */
export function composeSnapshotters(
  config: Config,
  stores: LayerStores,
  log: RootLogger,
  cleanup: Cleanup,
): readonly ContainerdParts[] {
  return Object.entries(config.snapshotters).map(([name, { layerStore, containerd, limit, sync }]) => {
    const blobs = new Containerd(containerd);
    cleanup.defer(() => blobs.close());
    return {
      ...{ name, blobs, fills: new Fills(), durable: sync === 'apply' },
      limit: limit === undefined ? null : parseSize(limit),
      store: () => stores.get(layerStore),
      root: (config.layerStores[layerStore] as LayerStoreConfig).path,
      log: log.child({ part: `snapshotter ${name}` }),
    };
  });
}

/**
 * The limits of containers that an engine with its images in a snapshotter keeps to itself.
 * @param engine undefined when nobody is to be asked
 */
export function composeContainerLimits(
  config: Config,
  stores: LayerStores,
  engine: ContainerEngine | undefined,
  log: RootLogger,
): ContainerLimits | undefined {
  if (engine === undefined) return undefined;
  const storeNames = Object.values(config.snapshotters).map(({ layerStore }) => layerStore);
  return new ContainerLimits({
    ...{ storeNames, stores, engine },
    clock: systemClock,
    log: log.child({ part: 'containers' }),
  });
}

/** What answers on the socket of a snapshotter. */
export function snapshotterServer(
  parts: ContainerdParts,
  options: { readonly ready: Promise<void>; readonly debug: boolean },
): GrpcServer {
  const server = new GrpcServer({ ...options, peerPid, log: parts.log });
  server.add(Snapshots, snapshotHandlers(parts), { slow: ['prepare', 'view', 'commit', 'usage'] });
  server.add(Diff, diffHandlers(parts), { unlimited: ['apply', 'diff'] });
  return server;
}
