import { FailedPrecondition, InvalidArgument } from '../../errors/errors.ts';
import type { KeyedLock } from '../../lib/keyed-lock.ts';
import { show } from '../names.ts';
import { baseName, mustFind } from './graph-lookup.ts';
import type { GraphMounts } from './graph-mounts.ts';
import { type GraphId, type GraphUse, nameOf, patienceMs, useLabel } from './graph-names.ts';
import type { Archive, LayerChange, LayerStore, LongWork } from './layer-store.ts';

export interface GraphArchiveParts {
  readonly store: () => Promise<LayerStore>;
  readonly mounts: GraphMounts;
  readonly locks: KeyedLock<GraphId>;
  /** Layers that were made, and no archive was sent for yet. */
  readonly fresh: Set<GraphId>;
}

/** What differs between layers of a graph driver. Every call throws NotFound for a layer that does not exist. */
export class GraphArchives {
  readonly #parts: GraphArchiveParts;

  constructor(parts: GraphArchiveParts) {
    this.#parts = parts;
  }

  /** @param base its parent, or any other layer; null for nothing */
  async changes(id: GraphId, base: GraphId | null, work: LongWork): Promise<readonly LayerChange[]> {
    const store = await this.#parts.store();
    const { name } = await mustFind(store, id);
    return await store.changes(await baseName(store, base), name, work);
  }

  /** Sum of the lengths of the files that differ, in bytes; hard links count once. */
  async diffSize(id: GraphId, base: GraphId | null, work: LongWork): Promise<number> {
    return (await this.changes(id, base, work)).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The same as an archive: the very one that the layer was made of, if it was. */
  async diff(id: GraphId, base: GraphId | null, work: LongWork): Promise<AsyncIterable<Uint8Array>> {
    const store = await this.#parts.store();
    const info = await mustFind(store, id);
    const beneath = await baseName(store, base);
    if (info.kind === 'committed' && info.diffId !== null && beneath === info.parent) {
      return await store.original(info.name, work);
    }
    // buildkit makes an image of this layer by this call alone, and nobody asks again for its data to be on the disk.
    if (info.kind === 'active' && info.labels[useLabel] === ('image' satisfies GraphUse)) await store.sync();
    return await store.diff(beneath, info.name, work);
  }

  /**
   * Unpacks an archive into a layer, at the first attempt: when its connection breaks dockerd sends what it has not sent
   * yet (moby, pkg/plugins/client.go), and the end of an archive may look like one. So a layer that was made before
   * this process was started gets none.
   * @returns the sum of the lengths of its files, in bytes
   * @throws FailedPrecondition for a layer that is mounted, or got its archive before; InvalidArgument for another
   * parent than the layer has, or an archive that is cut off
   */
  async applyDiff(id: GraphId, parent: GraphId | null, archive: Archive, work: LongWork): Promise<number> {
    const isFirst = this.#parts.fresh.delete(id);
    const store = await this.#parts.store();
    const beneath = await baseName(store, parent);
    return await this.#parts.locks.with(id, patienceMs, async () => {
      const info = await mustFind(store, id);
      if (!isFirst) throw tried(id);
      await this.#requireUnmounted(id);
      if (beneath !== info.parent) throw otherParent(id, beneath, info.parent);
      const { bytes } = await store.apply(info.name, archive, { ...work, keepOriginal: true });
      if (info.labels[useLabel] === ('container' satisfies GraphUse)) await store.sync();
      else await store.commit(nameOf.committed(id), info.name, { labels: info.labels });
      return bytes;
    });
  }

  async #requireUnmounted(id: GraphId): Promise<void> {
    if (!(await this.#parts.mounts.isHeld(id))) return;
    throw new FailedPrecondition(`the layer ${show(id)} is mounted; unmount it before an archive is applied`);
  }
}

function tried(id: GraphId): FailedPrecondition {
  return new FailedPrecondition(
    `an archive was sent for the layer ${show(id)} before, or varve was started after the layer was made; remove it, and make it again with its archive`,
  );
}

function otherParent(id: GraphId, given: string | null, actual: string | null): InvalidArgument {
  const named = (parent: string | null) => (parent === null ? 'nothing' : show(parent));
  return new InvalidArgument(
    `the layer ${show(id)} rests on ${named(actual)}, not on ${named(given)}; apply an archive to its own parent`,
  );
}
