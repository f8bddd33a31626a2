/**
 * A layer store as Docker's graph drivers are (moby, daemon/graphdriver/driver.go): an engine makes layers by ids, and
 * gets them mounted. A layer that others rest on is read-only from then on; here it is committed at that moment, as
 * `graph-names.ts` says. So is a layer of an image when its archive is unpacked: it is on the disk before the engine
 * takes it for there.
 */
import { AlreadyExists, FailedPrecondition, messageOf, Unimplemented } from '../../errors/errors.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import type { MountSource } from '../mount.ts';
import { show } from '../names.ts';
import { GraphArchives } from './graph-archives.ts';
import { find, mustFind, shown, unlessNotFound } from './graph-lookup.ts';
import { type GraphMountParts, GraphMounts, type Holder } from './graph-mounts.ts';
import { type GraphId, type GraphUse, idOfView, nameOf, patienceMs, useLabel } from './graph-names.ts';
import type { LayerStore, Limit } from './layer-store.ts';

/** A layer store, and what is told of it. */
export interface GraphStore extends LayerStore {
  readonly driver: string;
  readonly root: string;
}

export interface GraphParts extends GraphMountParts {
  /** The name of the layer store. */
  readonly layerStore: string;
  /** Opened when it is first needed. */
  readonly store: () => Promise<GraphStore>;
  /** The mount points whose unions have lost the process that served them. */
  readonly findDead: () => Promise<readonly string[]>;
  /** Told when layers were removed, whose space can be had now. */
  readonly onGarbage: () => void;
}

export interface NewGraphLayer {
  readonly parent: GraphId | null;
  readonly use: GraphUse;
  readonly limit: Limit | null;
  /** SELinux context that the layer will be mounted with; empty for none. */
  readonly label: string;
}

/**
 * Every call throws NotFound for a layer that does not exist, unless it says otherwise, and whatever keeps the store
 * from being opened.
 */
export class GraphLayers {
  readonly archives: GraphArchives;
  readonly #parts: GraphParts;
  readonly #mounts: GraphMounts;
  readonly #locks = new KeyedLock<GraphId>();
  /** Layers that were made, and no archive was sent for yet. */
  readonly #fresh = new Set<GraphId>();

  constructor(parts: GraphParts) {
    this.#parts = parts;
    this.#mounts = new GraphMounts(parts);
    const { store } = parts;
    this.archives = new GraphArchives({
      store,
      mounts: this.#mounts,
      locks: this.#locks,
      fresh: this.#fresh,
    });
  }

  /** An engine has started anew. */
  async begin(): Promise<void> {
    const store = await this.#parts.store();
    await this.#mounts.forgetUses();
    for await (const { name } of store.walk(['kind==view'])) {
      const id = idOfView(name);
      if (id !== undefined) await this.#sweep(id);
    }
  }

  /** Makes a writable layer. @throws AlreadyExists; Unimplemented for a limit or a label that it cannot have */
  async create(id: GraphId, { parent, use, limit, label }: NewGraphLayer): Promise<void> {
    const store = await this.#parts.store();
    if (label !== '') requireLabels(store);
    const beneath = parent === null ? null : await this.#asParent(store, parent);
    await this.#locks.with(id, patienceMs, async () => {
      if ((await find(store, id)) !== undefined) throw exists(id);
      await store.prepare(nameOf.active(id), {
        labels: { [useLabel]: use },
        ...(beneath === null ? {} : { parent: beneath }),
        ...(limit === null ? {} : { limit }),
      });
      this.#fresh.add(id);
    });
  }

  /** Removes a layer and its mount; one that is not there is fine. @throws FailedPrecondition while others rest on it */
  async remove(id: GraphId): Promise<void> {
    const store = await this.#parts.store();
    this.#fresh.delete(id);
    await this.#locks.with(id, patienceMs, async () => {
      await this.#requireTop(store, id);
      // The mount goes first: one whose layer nobody knows any more would be left for good.
      await this.#drop(id);
      for (const name of [nameOf.active(id), nameOf.committed(id)]) {
        await store.remove(name).catch(unlessNotFound);
      }
    });
    this.#parts.onGarbage();
  }

  /**
   * Mounts a layer, read-only once it is committed, or adds a use of a mounted one. @returns where
   * @throws FailedPrecondition when the engine would not see it
   */
  async get(id: GraphId, holder: Holder): Promise<string> {
    const store = await this.#parts.store();
    return await this.#locks.with(id, patienceMs, async () => {
      const info = await mustFind(store, id);
      try {
        return await this.#mounts.hold(id, holder, () => shown(store, id, info));
      } catch (error) {
        if (!(await this.#mounts.isHeld(id))) await this.#drop(id);
        throw error;
      }
    });
  }

  /** Ends a use, and with the last one the mount; a layer that is not there is fine. */
  async put(id: GraphId): Promise<void> {
    await this.#locks.with(id, patienceMs, async () => {
      if (await this.#mounts.isLastUse(id)) await this.#drop(id);
      else await this.#mounts.release(id);
    });
  }

  async exists(id: GraphId): Promise<boolean> {
    return (await find(await this.#parts.store(), id)) !== undefined;
  }

  /** For people, as `docker info` shows it. */
  async status(): Promise<readonly (readonly [string, string])[]> {
    const { driver, root } = await this.#parts.store();
    return [
      ['Layer Store', this.#parts.layerStore],
      ['Layer Driver', driver],
      ['Layer Root', root],
    ];
  }

  /** For people, as `docker inspect` shows it. */
  async metadata(id: GraphId): Promise<Readonly<Record<string, string>>> {
    const store = await this.#parts.store();
    const { name, number, kind } = await mustFind(store, id);
    const [source] = kind === 'active' ? await store.mounts(name) : [];
    return {
      ...{ Layer: name, Store: this.#parts.layerStore, Number: String(number) },
      MergedDir: this.#mounts.pathOf(id),
      ...(source === undefined ? {} : directoriesOf(source)),
    };
  }

  /** The engine ends, and has no container any more: nothing stays mounted. */
  async cleanup(): Promise<void> {
    await this.#each(id => this.#locks.with(id, patienceMs, () => this.#drop(id)));
  }

  /** Mounts anew what answers no more, and removes mount points on which nothing is mounted, as after a reboot. */
  async tidy(): Promise<void> {
    const dead = new Set(await this.#parts.findDead());
    await this.#each(id => (dead.has(this.#mounts.pathOf(id)) ? this.#revive(id) : this.#sweep(id)));
  }

  /** Does something with all that have a mount point; one that fails keeps no other from it. */
  async #each(act: (id: GraphId) => Promise<void>): Promise<void> {
    for (const id of await this.#mounts.ids()) {
      await act(id).catch((error: unknown) => {
        this.#parts.log.warn(`the mount of layer ${id}: ${messageOf(error)}`);
      });
    }
  }

  /** Takes a layer from its mount point, and what was made to show it. */
  async #drop(id: GraphId): Promise<void> {
    const store = await this.#parts.store();
    await this.#mounts.drop(id);
    await store.remove(nameOf.view(id)).catch(unlessNotFound);
  }

  async #revive(id: GraphId): Promise<void> {
    const store = await this.#parts.store();
    await this.#locks.with(id, patienceMs, async () => {
      const info = await find(store, id);
      if (info === undefined) return await this.#drop(id);
      await this.#mounts.mountAnew(id, await shown(store, id, info));
      this.#parts.log.warn(
        `the process that served ${this.#mounts.pathOf(id)} had ended: it is mounted again; restart the container that uses it`,
      );
    });
  }

  async #sweep(id: GraphId): Promise<void> {
    await this.#locks.with(id, patienceMs, async () => {
      if (!(await this.#mounts.isHeld(id))) await this.#drop(id);
    });
  }

  /**
   * Looks before anything is taken away from a layer that is mounted; the store does so for any other. A view of it does
   * not count. @throws FailedPrecondition for a layer that others rest on
   */
  async #requireTop(store: GraphStore, id: GraphId): Promise<void> {
    const [committed, view] = [nameOf.committed(id), nameOf.view(id)];
    const isThere = async (name: string) => (await store.stat(name).catch(unlessNotFound)) !== undefined;
    if (!(await isThere(committed))) return;
    if (!(await isThere(view)) && !(await this.#mounts.isHeld(id))) return;
    for await (const { name } of store.walk([`parent==${JSON.stringify(committed)}`])) {
      if (name === view) continue;
      throw new FailedPrecondition(`cannot remove ${show(id)}: ${show(name)} rests on it; remove that first`);
    }
  }

  /** The name of a layer that others are going to rest on: it is committed now, if it is not yet. */
  async #asParent(store: GraphStore, id: GraphId): Promise<string> {
    return await this.#locks.with(id, patienceMs, async () => {
      const { name, kind, labels } = await mustFind(store, id);
      if (kind !== 'active') return name;
      // Who wrote to it could change it under those that rest on it.
      if (await this.#mounts.isHeld(id)) await this.#mounts.makeReadonly(id);
      this.#fresh.delete(id);
      const committed = nameOf.committed(id);
      // What an engine puts beneath a container are empty files to mount on: a lost one is made anew by its runtime.
      const isImage = labels[useLabel] === ('image' satisfies GraphUse);
      await store.commit(committed, name, { labels, sync: isImage || 'unneeded' });
      return committed;
    });
  }
}

/** The directories of an overlay as dockerd's own driver calls them, for tools that look at them. */
function directoriesOf(source: MountSource): Readonly<Record<string, string>> {
  if (source.type === 'bind') return { UpperDir: source.source };
  const names = new Map([
    ['upperdir', 'UpperDir'],
    ['lowerdir', 'LowerDir'],
    ['workdir', 'WorkDir'],
  ]);
  return Object.fromEntries(
    source.options.flatMap(option => {
      const [, word = '', value = ''] = /^([a-z]+)=(.*)$/s.exec(option) ?? [];
      const name = names.get(word);
      return name === undefined ? [] : [[name, value]];
    }),
  );
}

/** @throws Unimplemented when the layers could not be mounted with a label */
function requireLabels({ driver }: GraphStore): void {
  if (driver === 'overlay') return;
  throw new Unimplemented(
    `layers of the driver ${driver} cannot be given an SELinux label; use the driver overlay, or start dockerd without --selinux-enabled`,
  );
}

function exists(id: GraphId): AlreadyExists {
  return new AlreadyExists(`the layer ${show(id)} exists already; remove it, or choose another id`);
}
