import type { GraphLayers } from '../../core/layers/graph.ts';
import { type GraphId, type GraphUse, parseGraphId } from '../../core/layers/graph-names.ts';
import type { Archive, LayerChange, Limit } from '../../core/layers/layer-store.ts';
import { parseStorageOptions } from '../../core/layers/storage-options.ts';
import { show } from '../../core/names.ts';
import { InvalidArgument, Unimplemented } from '../../errors/errors.ts';
import type { Body } from './calls.ts';

export interface GraphCaller {
  /** The process at the other end of the connection, if it can be known. */
  readonly peer: number | undefined;
  /** Fires when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** An answer that is an archive, as it is. */
export class ArchiveAnswer {
  readonly archive: AsyncIterable<Uint8Array>;

  constructor(archive: AsyncIterable<Uint8Array>) {
    this.archive = archive;
  }
}

type GraphCall = (body: Body, caller: GraphCaller) => Promise<object>;

/**
 * The calls of a graph driver plugin by their wire names (moby, daemon/graphdriver/proxy.go), but for ApplyDiff, whose
 * request is an archive. An empty body, which dockerd sends when it repeats a request whose connection broke, has no ID and
 * is refused by every call that changes something.
 */
export function graphCalls(graph: GraphLayers): Record<string, GraphCall> {
  const { archives } = graph;
  const create = async (body: Body, use: GraphUse, limit: Limit | null): Promise<object> => {
    const [id, parent] = [parseGraphId(body['ID']), parseParent(body['Parent'])];
    await graph.create(id, { parent, use, limit, label: parseLabel(body['MountLabel']) });
    return {};
  };
  return {
    'GraphDriver.Init': async body => {
      refuseSettings(body);
      await graph.begin();
      return {};
    },
    'GraphDriver.Capabilities': async () => ({ Capabilities: { ReproducesExactDiffs: true } }),
    'GraphDriver.Create': async body => {
      if (parseStorageOptions(body['StorageOpt']) !== null) {
        throw new InvalidArgument(
          'the storage option size is for containers; a layer of an image has no limit',
        );
      }
      return await create(body, 'image', null);
    },
    'GraphDriver.CreateReadWrite': async body => {
      const limit = parseStorageOptions(body['StorageOpt']);
      // dockerd sends the limit also for what it puts beneath a container, where the container cannot write.
      const isBeneath = parseGraphId(body['ID']).endsWith('-init');
      return await create(body, 'container', isBeneath ? null : limit);
    },
    'GraphDriver.Remove': async body => {
      await graph.remove(parseGraphId(body['ID']));
      return {};
    },
    'GraphDriver.Get': async (body, { peer, signal }) => {
      const [id, label] = [parseGraphId(body['ID']), parseLabel(body['MountLabel'])];
      const Dir = await graph.get(id, { peer, label });
      // An engine that does not get the answer does not put the layer back.
      if (signal.aborted) await graph.put(id);
      return { Dir };
    },
    'GraphDriver.Put': async body => {
      await graph.put(parseGraphId(body['ID']));
      return {};
    },
    'GraphDriver.Exists': async body => ({ Exists: await graph.exists(parseGraphId(body['ID'])) }),
    'GraphDriver.Status': async () => ({ Status: await graph.status() }),
    'GraphDriver.GetMetadata': async body => ({ Metadata: await graph.metadata(parseGraphId(body['ID'])) }),
    'GraphDriver.Cleanup': async () => {
      await graph.cleanup();
      return {};
    },
    'GraphDriver.Changes': async (body, { signal }) => {
      const changes = await archives.changes(...comparedIn(body), { signal });
      return { Changes: changes.map(changeOnWire) };
    },
    'GraphDriver.DiffSize': async (body, { signal }) => ({
      Size: await archives.diffSize(...comparedIn(body), { signal }),
    }),
    'GraphDriver.Diff': async (body, { signal }) =>
      new ArchiveAnswer(await archives.diff(...comparedIn(body), { signal })),
  };
}

/** ApplyDiff: the archive is the body, uncompressed and of any length. */
export async function applyDiff(
  graph: GraphLayers,
  query: { readonly id?: unknown; readonly parent?: unknown },
  archive: Archive,
  signal: AbortSignal,
): Promise<object> {
  const [id, parent] = [parseGraphId(query.id), parseParent(query.parent)];
  return { Size: await graph.archives.applyDiff(id, parent, archive, { signal }) };
}

function comparedIn(body: Body): [GraphId, GraphId | null] {
  return [parseGraphId(body['ID']), parseParent(body['Parent'])];
}

function parseParent(raw: unknown): GraphId | null {
  return raw === undefined || raw === '' ? null : parseGraphId(raw);
}

function parseLabel(raw: unknown): string {
  if (raw === undefined || typeof raw === 'string') return raw ?? '';
  throw new InvalidArgument(`MountLabel ${show(raw)} is not a text; send an SELinux context`);
}

/**
 * What dockerd says only once, at its own start: after a restart of ours nobody would keep it.
 * @throws Unimplemented for all of it
 */
function refuseSettings(body: Body): void {
  if (typeof body['Home'] !== 'string') {
    throw new InvalidArgument('GraphDriver.Init came without Home; restart the container engine');
  }
  const [option] = listed(body['Opts']);
  if (option !== undefined) {
    throw new Unimplemented(
      `varve takes no storage option ${show(option)} of dockerd; remove it, and set what it is for in the configuration of varve`,
    );
  }
  if (listed(body['UIDMaps']).length + listed(body['GIDMaps']).length > 0) {
    throw new Unimplemented(
      'varve keeps layers for the users of the host only, and cannot be the storage driver of a dockerd with userns-remap; ' +
        'remove userns-remap, or use overlay2',
    );
  }
}

function listed(raw: unknown): readonly unknown[] {
  return Array.isArray(raw) ? raw : [];
}

/** Kinds as numbers (moby, pkg/archive/changes.go). */
const kinds: Readonly<Record<LayerChange['kind'], number>> = { modified: 0, added: 1, deleted: 2 };

function changeOnWire({ path, kind }: LayerChange): object {
  return { Path: path, Kind: kinds[kind] };
}
