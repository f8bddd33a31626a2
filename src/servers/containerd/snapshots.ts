import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { LayerInfo, LayerKind, LayerStore, PrepareOptions } from '../../core/layers/layer-store.ts';
import { show } from '../../core/names.ts';
import { InvalidArgument, messageOf, Unimplemented } from '../../errors/errors.ts';
import {
  type CommitSnapshotRequest,
  type InfoSchema,
  Kind,
  type PrepareSnapshotRequest,
  type Snapshots,
  type ViewSnapshotRequest,
} from '../../wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Handlers } from '../grpc/service.ts';
import { limitOf } from './limits.ts';
import { toMounts } from './mounts.ts';
import type { ContainerdParts } from './parts.ts';
import { Removals } from './removals.ts';

/** How many layers one message of a list has at most, as with containerd's own service. */
const blockSize = 100;

/** containerd asks for other owners with these (core/snapshots: LabelSnapshotUIDMapping). */
const mappingLabels = ['containerd.io/snapshot/uidmapping', 'containerd.io/snapshot/gidmapping'];

const kinds: Readonly<Record<LayerKind, Kind>> = {
  active: Kind.ACTIVE,
  view: Kind.VIEW,
  committed: Kind.COMMITTED,
};

/**
 * The service of a proxy snapshotter (containerd, API services/snapshots/v1). containerd's metadata store stands
 * before it: keys and names arrive as `NAMESPACE/NUMBER/KEY`.
 */
export function snapshotHandlers(parts: ContainerdParts): Handlers<typeof Snapshots> {
  const storeFor = ({ snapshotter }: { readonly snapshotter: string }): Promise<LayerStore> => {
    requireName(parts.name, snapshotter);
    return parts.store();
  };
  const removals = new Removals(parts.log);
  return {
    prepare: async (request, call) => {
      const store = await storeFor(request);
      const limit = limitOf(request.key, request.labels, parts.limit);
      const options = { ...optionsOf(request), ...(limit === undefined ? {} : { limit }) };
      const mounts = await store.prepare(request.key, options);
      await removals.requireWaiting(store, request.key, call);
      return { mounts: toMounts(mounts) };
    },
    view: async (request, call) => {
      const store = await storeFor(request);
      const mounts = await store.view(request.key, optionsOf(request));
      await removals.requireWaiting(store, request.key, call);
      return { mounts: toMounts(mounts) };
    },
    mounts: async request => {
      const store = await storeFor(request);
      return { mounts: toMounts(await store.mounts(request.key)) };
    },
    commit: async (request, { signal }) => {
      const store = await storeFor(request);
      parts.fills.requireNone(request.key);
      await requireSameParent(store, request);
      const { name, key, labels } = request;
      await store.commit(name, key, { labels, sync: parts.durable, signal });
      return {};
    },
    remove: async request => {
      const store = await storeFor(request);
      parts.fills.stop(request.key);
      await removals.remove(store, request.key);
      return {};
    },
    stat: async request => {
      const store = await storeFor(request);
      return { info: toInfo(await store.stat(request.key)) };
    },
    update: async request => {
      const store = await storeFor(request);
      const { name = '', labels = {} } = request.info ?? {};
      return { info: toInfo(await store.update({ name, labels }, request.updateMask?.paths)) };
    },
    list: async function* (request) {
      const store = await storeFor(request);
      for await (const info of blocksOf(store, request.filters)) yield { info };
    },
    usage: async (request, { signal }) => {
      const store = await storeFor(request);
      const { bytes, inodes } = await store.usage(request.key, signal);
      return { size: BigInt(bytes), inodes: BigInt(inodes) };
    },
    cleanup: async request => {
      const store = await storeFor(request);
      // Not waited for: containerd lets nobody at its snapshots until its garbage collection has ended.
      store.cleanup().catch((error: unknown) => parts.log.warn(`removed layers stay: ${messageOf(error)}`));
      return {};
    },
  };
}

async function* blocksOf(
  store: LayerStore,
  filters: readonly string[],
): AsyncGenerator<MessageInitShape<typeof InfoSchema>[]> {
  let block: MessageInitShape<typeof InfoSchema>[] = [];
  for await (const info of store.walk(filters)) {
    block.push(toInfo(info));
    if (block.length < blockSize) continue;
    yield block;
    block = [];
  }
  if (block.length > 0) yield block;
}

function requireName(name: string, asked: string): void {
  if (asked === name) return;
  throw new InvalidArgument(
    `no such snapshotter: ${show(asked)}; this socket serves ${show(name)}: give it that name under proxy_plugins in containerd's configuration`,
  );
}

function optionsOf({ parent, labels }: PrepareSnapshotRequest | ViewSnapshotRequest): PrepareOptions {
  const mapping = mappingLabels.find(label => Object.hasOwn(labels, label));
  if (mapping === undefined) return { labels, ...(parent === '' ? {} : { parent }) };
  throw new Unimplemented(
    `the label ${mapping} asks for files of other owners, which no layer store can show; start the container without user namespace`,
  );
}

/**
 * containerd 2.2 and later may commit on another parent than it prepared on, if the snapshotter says that it can
 * (`rebase`), which this one does not.
 */
async function requireSameParent(store: LayerStore, { key, parent }: CommitSnapshotRequest): Promise<void> {
  if (parent === '' || (await store.stat(key)).parent === parent) return;
  throw new Unimplemented(
    `cannot commit ${show(key)} on ${show(parent)}: a layer keeps the parent that it was prepared on; remove the capability rebase from containerd's configuration`,
  );
}

function toInfo(info: LayerInfo): MessageInitShape<typeof InfoSchema> {
  const { name, kind, parent, labels, createdAt, updatedAt } = info;
  return {
    ...{ name, kind: kinds[kind], parent: parent ?? '', labels },
    createdAt: timestampFromDate(new Date(createdAt)),
    updatedAt: timestampFromDate(new Date(updatedAt)),
  };
}
