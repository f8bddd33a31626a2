import { randomUUID } from 'node:crypto';
import type { LayerInfo } from '../../core/layers/layer-store.ts';
import type { EngineUsers, LayerEngine } from '../../core/layers/users.ts';
import type { LayerUser } from '../../core/layers/view.ts';
import { NotFound } from '../../errors/errors.ts';
import { Containers } from '../../wire/gen/containerd/services/containers/v1/containers_pb.ts';
import { Content } from '../../wire/gen/containerd/services/content/v1/content_pb.ts';
import { Images } from '../../wire/gen/containerd/services/images/v1/images_pb.ts';
import { Leases } from '../../wire/gen/containerd/services/leases/v1/leases_pb.ts';
import { Snapshots } from '../../wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { ContainerdClient } from './containerd-client.ts';

/** Names of containers by their ids, as another engine in front of containerd knows them. */
export type ContainerNames = () => Promise<ReadonlyMap<string, string>>;

export interface ContainerdLayersParts {
  /** Path of containerd's socket. */
  readonly address: string;
  /** What containerd calls us. */
  readonly snapshotter: string;
  readonly names: ContainerNames;
}

/** How old a layer must be to count as leaked, in milliseconds: containerd notes a new one after we have made it. */
const settled = 600_000;

/**
 * What a containerd keeps in a store: its records say who has which snapshot. It names layers
 * `NAMESPACE/NUMBER/KEY` (core/metadata/snapshot.go), and a client knows the key.
 */
export class ContainerdLayers implements LayerEngine {
  readonly #parts: ContainerdLayersParts;

  constructor(parts: ContainerdLayersParts) {
    this.#parts = parts;
  }

  async users(layers: readonly LayerInfo[]): Promise<EngineUsers> {
    const client = new ContainerdClient(this.#parts.address);
    try {
      const names = await this.#parts.names();
      const users = new Map<string, readonly LayerUser[]>();
      const leaked = new Set<string>();
      for (const [namespace, own] of byNamespace(layers)) {
        const look = new NamespaceLook(client, namespace, this.#parts.snapshotter, own);
        await look.containers(names);
        await look.images();
        await look.leases(names);
        for (const name of await look.leaked()) leaked.add(name);
        for (const [name, found] of look.users) users.set(name, found);
      }
      return { users, leaked };
    } finally {
      client.close();
    }
  }

  /**
   * Makes containerd collect now: that is what removing a lease with `sync` does (`ctr content prune references`). It looks
   * at a snapshotter only when a snapshot of it was removed before (core/metadata/db.go, dirtySS).
   */
  async collect(): Promise<void> {
    const { address, snapshotter } = this.#parts;
    const client = new ContainerdClient(address);
    try {
      const [snapshots, leases] = [client.service(Snapshots, 'default'), client.service(Leases, 'default')];
      const key = `varve-gc-${randomUUID()}`;
      await snapshots.prepare({ snapshotter, key });
      await snapshots.remove({ snapshotter, key }).catch(unlessMissing);
      // Should we end in between; one that has expired already is collected before we remove it.
      const expiry = new Date(Date.now() + 3_600_000).toISOString();
      const { lease } = await leases.create({ labels: { 'containerd.io/gc.expire': expiry } });
      await leases.delete({ id: lease?.id ?? '', sync: true }, { deadlineMs: 60_000 });
    } finally {
      client.close();
    }
  }
}

interface OwnLayer {
  readonly info: LayerInfo;
  /** As clients know it. */
  readonly key: string;
}

function byNamespace(layers: readonly LayerInfo[]): ReadonlyMap<string, readonly OwnLayer[]> {
  const named = layers.flatMap(info => {
    const [, namespace, key] = /^([^/]+)\/\d+\/(.+)$/s.exec(info.name) ?? [];
    return namespace === undefined || key === undefined ? [] : [{ namespace, info, key }];
  });
  return Map.groupBy(named, ({ namespace }) => namespace);
}

/** Finds out who has the snapshots of one namespace. */
class NamespaceLook {
  readonly users = new Map<string, LayerUser[]>();
  readonly #client: ContainerdClient;
  readonly #namespace: string;
  readonly #snapshotter: string;
  readonly #byKey: ReadonlyMap<string, LayerInfo>;
  readonly #topmost: readonly OwnLayer[];

  constructor(client: ContainerdClient, namespace: string, snapshotter: string, layers: readonly OwnLayer[]) {
    this.#client = client;
    this.#namespace = namespace;
    this.#snapshotter = snapshotter;
    this.#byKey = new Map(layers.map(({ key, info }) => [key, info]));
    const parents = new Set(layers.map(({ info }) => info.parent));
    this.#topmost = layers.filter(({ info }) => !parents.has(info.name));
  }

  async containers(names: ReadonlyMap<string, string>): Promise<void> {
    const { containers } = await this.#client.service(Containers, this.#namespace).list({});
    for (const { id, labels, snapshotter, snapshotKey } of containers) {
      const own = snapshotter === this.#snapshotter ? [snapshotKey] : [];
      const name = names.get(id) ?? nameIn(labels) ?? shortId(id);
      for (const key of new Set([...own, ...snapshotsIn(labels, this.#snapshotter)])) {
        this.#note(key, { kind: 'container', name });
      }
    }
  }

  /** From an image to its snapshot lead the labels by which containerd's collector goes (docs/garbage-collection.md). */
  async images(): Promise<void> {
    const { images } = await this.#client.service(Images, this.#namespace).list({});
    const labelsOf = await this.#blobs();
    const byTarget = Map.groupBy(images, ({ target }) => target?.digest ?? '');
    for (const [digest, same] of byTarget) {
      const names = readable(same.map(({ name }) => name));
      const labelled = same.flatMap(({ labels }) => snapshotsIn(labels, this.#snapshotter));
      for (const key of new Set([...labelled, ...snapshotsOf(digest, labelsOf, this.#snapshotter)])) {
        for (const name of names) this.#note(key, { kind: 'image', name });
      }
    }
  }

  async #blobs(): Promise<ReadonlyMap<string, Labels>> {
    const found = new Map<string, Labels>();
    for await (const { info } of this.#client.service(Content, this.#namespace).list({})) {
      for (const { digest, labels } of info) found.set(digest, labels);
    }
    return found;
  }

  /** A lease counts for what nobody else has: docker keeps each container by one, and build-kit each of its records. */
  async leases(names: ReadonlyMap<string, string>): Promise<void> {
    const service = this.#client.service(Leases, this.#namespace);
    const free = new Map(this.#unused().map(({ key, info }) => [key, info]));
    if (free.size === 0) return;
    const { leases } = await service.list({});
    for (const { id, labels } of leases) {
      const { resources } = await service.listResources({ id });
      const container = names.get(id);
      const kind =
        container !== undefined ? 'container' : 'containerd.io/gc.flat' in labels ? 'build cache' : 'lease';
      for (const resource of resources) {
        const isOurs = resource.type === `snapshots/${this.#snapshotter}` && free.has(resource.id);
        if (isOurs) this.#note(resource.id, { kind, name: container ?? shortId(id) });
      }
    }
  }

  /** The names of what containerd's collector would remove; what a label keeps is none of it. */
  async leaked(): Promise<readonly string[]> {
    const service = this.#client.service(Snapshots, this.#namespace);
    const names: string[] = [];
    for (const { key, info } of this.#unused()) {
      if (Date.now() - Date.parse(info.updatedAt) < settled) continue;
      const known = await service.stat({ snapshotter: this.#snapshotter, key }).catch(unlessMissing);
      if (known?.info?.labels['containerd.io/gc.root'] === undefined) names.push(info.name);
      else this.#note(key, { kind: 'lease', name: 'its label containerd.io/gc.root' });
    }
    return names;
  }

  #unused(): readonly OwnLayer[] {
    return this.#topmost.filter(({ info }) => !this.users.has(info.name));
  }

  #note(key: string, user: LayerUser): void {
    const layer = this.#byKey.get(key);
    if (layer === undefined) return;
    const users = this.users.get(layer.name) ?? [];
    this.users.set(layer.name, [...users, user]);
  }
}

type Labels = Readonly<Record<string, string>>;

/** The snapshots that an image or one of its blobs refers to. */
function snapshotsOf(
  target: string,
  labelsOf: ReadonlyMap<string, Labels>,
  snapshotter: string,
): readonly string[] {
  const keys: string[] = [];
  const seen = new Set([target]);
  for (const digest of seen) {
    const labels = labelsOf.get(digest) ?? {};
    keys.push(...snapshotsIn(labels, snapshotter));
    for (const [label, value] of Object.entries(labels)) {
      if (label.startsWith('containerd.io/gc.ref.content')) seen.add(value);
    }
  }
  return keys;
}

/** A label may go on after the name of the snapshotter, behind a slash, so that there can be several. */
function snapshotsIn(labels: Labels, snapshotter: string): readonly string[] {
  const label = `containerd.io/gc.ref.snapshot.${snapshotter}`;
  return Object.entries(labels).flatMap(([name, key]) =>
    name === label || name.startsWith(`${label}/`) ? [key] : [],
  );
}

/** Kubernetes gives an image three names, of which a person knows one; those of Docker Hub are shown as docker does. */
function readable(names: readonly string[]): readonly string[] {
  const known = names.filter(name => !/^sha256:|@sha256:/.test(name));
  return (known.length > 0 ? known : names.slice(0, 1)).map(name =>
    name.replace(/^docker\.io\/(library\/)?/, ''),
  );
}

function nameIn(labels: Labels): string | undefined {
  const pod = ['namespace', 'name'].map(part => labels[`io.kubernetes.pod.${part}`]);
  const container = labels['io.kubernetes.container.name'];
  if (pod.every(part => part !== undefined)) return [...pod, container].filter(Boolean).join('/');
  return labels['nerdctl/name'];
}

function shortId(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id;
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof NotFound) return undefined;
  throw error;
}
