/**
 * Limits that an engine does not tell the snapshotter. Docker Engine with its images in containerd drops
 * `docker run --storage-opt size=10G` on the way (moby, daemon/containerd/image_snapshot.go): only the container itself
 * says it.
 */
import {
  FailedPrecondition,
  InvalidArgument,
  messageOf,
  NotFound,
  Unimplemented,
} from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';
import type { Clock } from '../ports.ts';
import type { LayerInfo, LayerStore, Limit } from './layer-store.ts';
import { parseStorageOptions } from './storage-options.ts';

/** Why a container's layer has not the limit that the container asks for. */
export const refusedLabel = 'varve/limit-refused';

/** dockerd knows a container only some time after its layer was made: how long at most, in milliseconds. */
const registeredWithin = 60_000;

/** The engine, as somebody asks it who must not wait for it on a request path of its own. */
export interface ContainerEngine {
  /**
   * What a container asks of its storage, as dockerd writes it. @param container its whole id
   * @returns undefined when the engine knows no such container
   * @throws Unavailable
   */
  storageOptions(container: string): Promise<unknown>;
}

export interface LimitedStore extends Pick<LayerStore, 'walk' | 'update'> {
  /** As `Layers.limit`. */
  limit(key: string, limit: Limit): Promise<void>;
}

export interface ContainerLimitsParts {
  /** Those in which a containerd keeps its layers. */
  readonly storeNames: readonly string[];
  readonly stores: { made(): Promise<readonly string[]>; get(name: string): Promise<LimitedStore> };
  readonly engine: ContainerEngine;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Gives the layers of Docker's containers the limits that these ask for, in the background: each container is asked
 * about once. A limit that cannot be kept is refused, in the log and in a label of the layer.
 */
export class ContainerLimits {
  readonly #parts: ContainerLimitsParts;
  /** By stores, the layers that need no further question. */
  readonly #settled = new Map<string, ReadonlySet<string>>();
  /** By stores, the layers at which a round ended: they come last in the next. */
  readonly #failed = new Map<string, ReadonlySet<string>>();
  /** By stores, what kept the last round from its work. */
  readonly #troubles = new Map<string, string>();

  constructor(parts: ContainerLimitsParts) {
    this.#parts = parts;
  }

  /** One round. */
  async tick(signal?: AbortSignal): Promise<void> {
    const made = await this.#parts.stores.made();
    for (const name of this.#parts.storeNames.filter(each => made.includes(each))) {
      try {
        await this.#look(name, signal);
        this.#troubles.delete(name);
      } catch (error) {
        this.#warn(name, messageOf(error));
      }
    }
  }

  async #look(name: string, signal: AbortSignal | undefined): Promise<void> {
    const store = await this.#parts.stores.get(name);
    const layers = await containersIn(store);
    const settled = stillThere(this.#settled.get(name), layers);
    this.#settled.set(name, settled);
    const failed = stillThere(this.#failed.get(name), layers);
    this.#failed.set(name, failed);
    // An engine that hangs at one container must not keep the others from their limits.
    const isLast = ({ info }: ContainerLayer): number => Number(failed.has(info.name));
    for (const { info, container } of layers.toSorted((a, b) => isLast(a) - isLast(b))) {
      if (signal?.aborted === true) return;
      if (settled.has(info.name)) continue;
      failed.add(info.name);
      if (await this.#settle(store, info, container)) settled.add(info.name);
      failed.delete(info.name);
    }
  }

  /** @returns whether nothing is left to do for this layer */
  async #settle(store: LimitedStore, info: LayerInfo, container: string): Promise<boolean> {
    const { engine, clock } = this.#parts;
    const options = await engine.storageOptions(container);
    if (options === undefined) {
      return clock.now().getTime() - Date.parse(info.createdAt) > registeredWithin;
    }
    try {
      await this.#limit(store, info, parseStorageOptions(options));
      return true;
    } catch (error) {
      if (error instanceof NotFound) return true;
      await this.#refuse(store, info, container, `${textOf(options)}: ${messageOf(error)}`);
      return [Unimplemented, InvalidArgument, FailedPrecondition].some(each => error instanceof each);
    }
  }

  async #limit(store: LimitedStore, { name, labels }: LayerInfo, limit: Limit | null): Promise<void> {
    if (limit !== null) await store.limit(name, limit);
    if (Object.hasOwn(labels, refusedLabel)) await store.update({ name, labels: {} }, [refusedField]);
  }

  /** The label outlives a restart, so that each refusal is logged once. */
  async #refuse(store: LimitedStore, info: LayerInfo, container: string, reason: string): Promise<void> {
    const { name, labels } = info;
    if (labels[refusedLabel] === reason) return;
    await store.update({ name, labels: { [refusedLabel]: reason } }, [refusedField]);
    this.#parts.log.error(`the container ${container.slice(0, 12)} does not get the limit ${reason}`);
  }

  /** Once for as long as it stays so. */
  #warn(name: string, reason: string): void {
    if (this.#troubles.get(name) === reason) return;
    this.#troubles.set(name, reason);
    this.#parts.log.warn(`limits of containers in the layer store ${name} wait: ${reason}`);
  }
}

const refusedField = `labels.${refusedLabel}`;

interface ContainerLayer {
  readonly info: LayerInfo;
  readonly container: string;
}

function stillThere(names: ReadonlySet<string> | undefined, layers: readonly ContainerLayer[]): Set<string> {
  return new Set(layers.map(({ info }) => info.name).filter(each => names?.has(each)));
}

/** The writable layers of Docker's containers. */
async function containersIn(store: LimitedStore): Promise<readonly ContainerLayer[]> {
  const found: ContainerLayer[] = [];
  for await (const info of store.walk(['kind==active'])) {
    const container = containerOf(info);
    if (container !== undefined) found.push({ info, container });
  }
  return found;
}

/**
 * Of which container of Docker a layer is: containerd puts `NAMESPACE/NUMBER/` before its id. A dockerd with a namespace
 * of its own is known by the layer `ID-init` beneath, which no other engine makes.
 */
function containerOf({ name, parent }: LayerInfo): string | undefined {
  const [, namespace, id] = /^([^/]+)\/[0-9]+\/([0-9a-f]{64})$/.exec(name) ?? [];
  return namespace === 'moby' || parent?.endsWith(`/${id}-init`) === true ? id : undefined;
}

/** A label takes 4096 bytes. */
function textOf(options: unknown): string {
  const words = Object.entries(options ?? {}).map(([name, value]) => `${name}=${String(value)}`);
  return words.join(' ').slice(0, 200);
}
