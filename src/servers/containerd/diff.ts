import { randomUUID } from 'node:crypto';
import type { LayerInfo, LayerStore } from '../../core/layers/layer-store.ts';
import { show } from '../../core/names.ts';
import { FailedPrecondition, InvalidArgument, Unimplemented } from '../../errors/errors.ts';
import type { ApplyRequest, Diff, DiffRequest } from '../../wire/gen/containerd/services/diff/v1/diff_pb.ts';
import type { Descriptor } from '../../wire/gen/containerd/types/descriptor_pb.ts';
import type { Mount } from '../../wire/gen/containerd/types/mount_pb.ts';
import type { Call, Handlers } from '../grpc/service.ts';
import { type Compression, compressed } from './compression.ts';
import { toSources } from './mounts.ts';
import type { ContainerdParts } from './parts.ts';

const uncompressed = 'application/vnd.oci.image.layer.v1.tar';

/** The media types of layers (OCI image spec, layer.md; Docker image manifest V2 schema 2; containerd, core/images). */
const compressions: ReadonlyMap<string, Compression> = new Map([
  ...[uncompressed, 'application/vnd.oci.image.layer.nondistributable.v1.tar'].flatMap(
    type =>
      [
        [type, 'none'],
        [`${type}+gzip`, 'gzip'],
        [`${type}+zstd`, 'zstd'],
      ] as const,
  ),
  ...[
    'application/vnd.docker.image.rootfs.diff.tar',
    'application/vnd.docker.image.rootfs.foreign.diff.tar',
  ].flatMap(
    type =>
      [
        [type, 'none'],
        [`${type}.gzip`, 'gzip'],
        [`${type}.zstd`, 'zstd'],
      ] as const,
  ),
]);

/** Where containerd, and all that is built on it, looks for the DiffID of a blob. */
const diffIdLabel = 'containerd.io/uncompressed';

/**
 * The service of a differ (containerd, API services/diff/v1). What it answers with UNIMPLEMENTED containerd's diff
 * service asks the next differ of its list.
 */
export function diffHandlers(parts: ContainerdParts): Handlers<typeof Diff> {
  return {
    apply: async (request, call) => {
      const blob = requireBlob(request);
      const { store, name } = await findLayer(parts, request.mounts);
      const applied = await parts.fills.run(name, call.signal, async signal => {
        const archive = await parts.blobs.read(namespaceOf(call, name), blob, signal);
        return await store.apply(name, archive, { signal, sync: request.syncFs || parts.durable });
      });
      return {
        applied: { mediaType: uncompressed, digest: applied.diffId, size: BigInt(applied.size) },
      };
    },
    diff: async (request, call) => {
      const { mediaType, compression } = formatOf(request);
      const { store, name } = await findLayer(parts, request.right);
      const namespace = namespaceOf(call, name);
      const end = new AbortController();
      const signal = AbortSignal.any([call.signal, end.signal]);
      try {
        const archive = await store.diff(baseOf(store, request.left), name, { signal });
        const { bytes, digest } = compressed(archive, compression);
        const ref = request.ref === '' ? `varve-diff-${randomUUID()}` : request.ref;
        const labels = () => ({ ...request.labels, [diffIdLabel]: digest() });
        const blob = await parts.blobs.write(namespace, bytes, { ref, labels, signal, ...leaseOf(call) });
        return { diff: { mediaType, digest: blob.digest, size: BigInt(blob.size) } };
      } finally {
        // Whoever was to write the blob may have left the archive unread.
        end.abort();
      }
    },
  };
}

/** containerd 1.7 does not tell a differ the namespace; its metadata store begins the names of layers with it. */
function namespaceOf({ namespace = '' }: Call, layer: string): string {
  const found = namespace === '' && layer.includes('/') ? layer.slice(0, layer.indexOf('/')) : namespace;
  if (found !== '') return found;
  throw new FailedPrecondition(
    'the request names no namespace, and each has blobs of its own; send the metadata containerd-namespace',
  );
}

/** containerd passes on the lease of a client within its process, and not that of one on its socket. */
function leaseOf({ metadata }: Call): { readonly lease?: string } {
  const lease = metadata.get('containerd-lease')[0]?.toString() ?? '';
  return lease === '' ? {} : { lease };
}

/**
 * The layer that mounts show. The store is opened for mounts of its own only: while it cannot be, containerd has to go
 * on to the next differ with those of other snapshotters. @throws Unimplemented for those
 */
async function findLayer(
  { root, store: open }: ContainerdParts,
  mounts: readonly Mount[],
): Promise<{ readonly store: LayerStore; readonly name: string }> {
  const isOurs = mounts.some(({ source, options }) =>
    [source, ...options].some(text => text.includes(`${root}/`)),
  );
  if (!isOurs) throw foreign();
  const store = await open();
  return { store, name: requireLayer(store, mounts).name };
}

/** @throws Unimplemented for mounts that another snapshotter has made */
function requireLayer(store: LayerStore, mounts: readonly Mount[]): LayerInfo {
  const sources = toSources(mounts);
  const layer = sources && store.layerOf(sources);
  if (layer !== undefined) return layer;
  throw foreign();
}

function foreign(): Unimplemented {
  return new Unimplemented(
    'these mounts show no layer of this layer store; list another differ after this one, such as walking',
  );
}

/** @returns the layer to compare with; null for nothing */
function baseOf(store: LayerStore, mounts: readonly Mount[]): string | null {
  if (mounts.length === 0) return null;
  const { name, kind } = requireLayer(store, mounts);
  return kind === 'view' ? null : name;
}

/** @throws InvalidArgument, Unimplemented */
function requireBlob({ diff, payloads }: ApplyRequest): { readonly digest: string; readonly size: number } {
  if (diff === undefined) {
    throw new InvalidArgument('the request names no archive; send the field diff');
  }
  requireType(diff.mediaType);
  const [payload] = Object.keys(payloads);
  if (payload === undefined) return blobOf(diff);
  throw new Unimplemented(
    `the archive comes with a payload of type ${show(payload)}, and varve reads none; list another differ after this one, such as walking`,
  );
}

function blobOf({ digest, size }: Descriptor): { readonly digest: string; readonly size: number } {
  return { digest, size: Number(size) };
}

function formatOf(request: DiffRequest): { readonly mediaType: string; readonly compression: Compression } {
  const mediaType = request.mediaType === '' ? `${uncompressed}+gzip` : request.mediaType;
  if (request.sourceDateEpoch === undefined) return { mediaType, compression: requireType(mediaType) };
  throw new Unimplemented(
    'varve does not change the times in an archive (source_date_epoch); list another differ after this one, such as walking',
  );
}

function requireType(mediaType: string): Compression {
  const compression = compressions.get(mediaType);
  if (compression !== undefined) return compression;
  throw new Unimplemented(
    `varve reads and writes no archives of the type ${show(mediaType)}; list another differ after this one, such as walking`,
  );
}
