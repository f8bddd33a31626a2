import type { LayerStore } from '../../core/layers/layer-store.ts';
import type { BlobStore } from '../../core/ports.ts';
import type { Logger } from '../../lib/log.ts';
import type { Fills } from './fills.ts';

/** What one containerd is served with. */
export interface ContainerdParts {
  /** What containerd calls this snapshotter. */
  readonly name: string;
  /** Its layers. @throws Unavailable, while their disk is not there */
  readonly store: () => Promise<LayerStore>;
  /** The directory that they are in. */
  readonly root: string;
  readonly blobs: BlobStore;
  /** The most that a container may write, in bytes, when containerd does not say; null for no limit. */
  readonly limit: number | null;
  /** Whether a layer is on the disk before containerd hears that it is there. */
  readonly durable: boolean;
  readonly fills: Fills;
  readonly log: Logger;
}
