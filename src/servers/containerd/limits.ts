import type { Labels, Limit } from '../../core/layers/layer-store.ts';
import { show } from '../../core/names.ts';
import { InvalidArgument } from '../../errors/errors.ts';

/** The most that a layer may hold, in decimal bytes (containerd, core/snapshots: LabelSnapshotMaxSize). */
const maxSize = 'containerd.io/snapshot/max-size';

/**
 * What a new layer may take: what its label says, or else the default of containers.
 * @throws InvalidArgument
 */
export function limitOf(key: string, labels: Labels, ofContainers: number | null): Limit | undefined {
  const text = Object.hasOwn(labels, maxSize) ? labels[maxSize] : undefined;
  if (text === undefined) {
    return ofContainers !== null && isContainer(key) ? { bytes: ofContainers } : undefined;
  }
  const bytes = /^[0-9]{1,16}$/.test(text) ? Number(text) : 0;
  if (Number.isSafeInteger(bytes) && bytes > 0) return { bytes };
  throw new InvalidArgument(
    `the label ${maxSize} is ${show(text)}; give a whole number of bytes greater than zero`,
  );
}

/**
 * Whether a key is called like a container of Docker Engine, Kubernetes or nerdctl, by its id. Other keys are those of
 * layers in the making: an unpacking, a build step, what an engine puts beneath a container. containerd puts
 * `NAMESPACE/NUMBER/` before each (core/metadata).
 */
function isContainer(key: string): boolean {
  return /(^|\/)[0-9a-f]{64}$/.test(key);
}
