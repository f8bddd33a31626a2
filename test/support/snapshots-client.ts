import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { ServiceError } from '@grpc/grpc-js';
import type {
  Cleaned,
  CommitOptions,
  Labels,
  LayerInfo,
  LayerKind,
  LayerStore,
  Limit,
  PrepareOptions,
} from '../../src/core/layers/layer-store.ts';
import type { Collected, LayerView } from '../../src/core/layers/view.ts';
import type { MountSource } from '../../src/core/mount.ts';
import type { Usage } from '../../src/core/ports.ts';
import { InvalidArgument } from '../../src/errors/errors.ts';
import { fromGrpc } from '../../src/errors/from-grpc.ts';
import { toSources } from '../../src/servers/containerd/mounts.ts';
import {
  type Info,
  Kind,
  Snapshots,
} from '../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Mount } from '../../src/wire/gen/containerd/types/mount_pb.ts';
import { admin } from '../crash/admin.ts';
import type { TestDaemon } from './daemon.ts';
import { TestGrpcClient } from './grpc-client.ts';

const { prepare, view, mounts, commit, remove, stat, update, list, usage, cleanup } = Snapshots.method;

const kinds: Readonly<Record<number, LayerKind>> = {
  [Kind.ACTIVE]: 'active',
  [Kind.VIEW]: 'view',
  [Kind.COMMITTED]: 'committed',
};

/** What a snapshotter's socket cannot be asked. */
export const beyondSnapshots = [
  ...['sync', 'freeze', 'merge', 'layerOf'],
  ...['apply', 'diff', 'original', 'changes', 'verify'],
] as readonly (keyof LayerStore)[];

/**
 * A layer store behind the socket of a snapshotter. What containerd does not learn of a layer, such as its number, is
 * looked up on the admin socket.
 */
export class SnapshotsClient implements LayerStore {
  readonly #daemon: TestDaemon;
  readonly #wire: TestGrpcClient;
  readonly #of: { readonly snapshotter: string };

  constructor(daemon: TestDaemon, socket: string, snapshotter = 'varve') {
    this.#daemon = daemon;
    this.#wire = new TestGrpcClient(socket);
    this.#of = { snapshotter };
  }

  async prepare(
    key: string,
    { parent = '', labels = {}, limit }: PrepareOptions & { readonly limit?: Limit } = {},
  ): Promise<readonly MountSource[]> {
    const size = limit === undefined ? {} : { 'containerd.io/snapshot/max-size': `${limit.bytes}` };
    const request = { ...this.#of, key, parent, labels: { ...texts(labels), ...size } };
    return sources((await failing(this.#wire.ask(prepare, request))).mounts);
  }

  async view(
    key: string,
    { parent = '', labels = {} }: PrepareOptions = {},
  ): Promise<readonly MountSource[]> {
    const request = { ...this.#of, key, parent, labels: texts(labels) };
    return sources((await failing(this.#wire.ask(view, request))).mounts);
  }

  async mounts(key: string): Promise<readonly MountSource[]> {
    return sources((await failing(this.#wire.ask(mounts, { ...this.#of, key }))).mounts);
  }

  async commit(name: string, key: string, { labels = {} }: CommitOptions = {}): Promise<void> {
    await failing(this.#wire.ask(commit, { ...this.#of, name, key, labels: texts(labels) }));
  }

  async remove(key: string): Promise<void> {
    await failing(this.#wire.ask(remove, { ...this.#of, key }));
  }

  async stat(key: string): Promise<LayerInfo> {
    const { info } = await failing(this.#wire.ask(stat, { ...this.#of, key }));
    return await this.#completed(info);
  }

  async update(
    change: Pick<LayerInfo, 'name' | 'labels'> & Partial<LayerInfo>,
    mask: readonly string[] = [],
  ): Promise<LayerInfo> {
    const { name, parent, labels } = change;
    const request = {
      ...this.#of,
      info: { name, parent: parent ?? '', labels: texts(labels) },
      updateMask: { paths: [...mask] },
    };
    const { info } = await failing(this.#wire.ask(update, request));
    return await this.#completed(info);
  }

  async *walk(filters: readonly string[] = []): AsyncGenerator<LayerInfo> {
    const blocks = this.#wire.stream(list, { ...this.#of, filters: [...filters] });
    const infos: Info[] = [];
    await failing(
      (async () => {
        for await (const block of blocks as AsyncIterable<{ readonly info: Info[] }>)
          infos.push(...block.info);
      })(),
    );
    const known = new Map((await this.#views()).map(each => [each.name, each]));
    for (const info of infos) yield layerOf(info, known.get(info.name));
  }

  async usage(key: string): Promise<Usage> {
    const { size, inodes } = await failing(this.#wire.ask(usage, { ...this.#of, key }));
    return { bytes: Number(size), inodes: Number(inodes) };
  }

  /** The daemon cleans in the background; asked once more, it tells what is left. */
  async cleanup(): Promise<Cleaned> {
    await failing(this.#wire.ask(cleanup, this.#of));
    const { left } = await admin<Collected>(this.#daemon, 'POST', '/v1/layers-gc?store=containerd');
    return { left };
  }

  async close(): Promise<void> {
    this.#wire.close();
  }

  sync = cannotAsk;
  freeze = cannotAsk;
  merge = cannotAsk;
  layerOf = cannotAsk;
  apply = cannotAsk;
  diff = cannotAsk;
  original = cannotAsk;
  changes = cannotAsk;
  verify = cannotAsk;

  #views(): Promise<readonly LayerView[]> {
    return admin(this.#daemon, 'GET', '/v1/layers?store=containerd');
  }

  async #completed(info: Info | undefined): Promise<LayerInfo> {
    if (info === undefined) throw new Error('an answer has no info');
    return layerOf(
      info,
      (await this.#views()).find(({ name }) => name === info.name),
    );
  }
}

/** Labels as they can be sent: whatever is no text cannot. */
function texts(labels: Labels): Record<string, string> {
  const [other] = Object.entries(labels).filter(([, value]) => typeof value !== 'string');
  if (other !== undefined) throw new InvalidArgument(`the label ${other[0]} is no text`);
  return { ...labels };
}

function cannotAsk(): never {
  throw new Error('a snapshotter is not asked this');
}

function layerOf(info: Info, known: LayerView | undefined): LayerInfo {
  const { name, parent, labels, createdAt, updatedAt } = info;
  const kind = kinds[info.kind];
  if (kind === undefined || createdAt === undefined || updatedAt === undefined) {
    throw new Error(`an answer lacks something: ${name} ${info.kind}`);
  }
  return {
    ...{ name, kind, parent: parent === '' ? null : parent, labels: { ...labels } },
    createdAt: timestampDate(createdAt).toISOString(),
    updatedAt: timestampDate(updatedAt).toISOString(),
    number: known?.number ?? Number.NaN,
    limit: known?.limit ?? null,
    usage: known?.usage ?? null,
    diffId: known?.diffId ?? null,
    damage: known?.damage ?? null,
  };
}

function sources(mounted: readonly Mount[]): readonly MountSource[] {
  const found = toSources(mounted);
  if (found === undefined) throw new Error(`these are no mounts of a layer: ${JSON.stringify(mounted)}`);
  return found;
}

/** What a call gives, or its failure as what the daemon threw. */
async function failing<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const { code, details } = error as ServiceError;
    throw fromGrpc(code, { message: details, cause: error });
  }
}
