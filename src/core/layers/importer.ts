import { AlreadyExists, InvalidArgument, messageOf, NotFound } from '../../errors/errors.ts';
import { show } from '../names.ts';
import type { FoundLayer, InspectedStore, LayerInspector } from './inspector.ts';
import type { Archive, LongWork } from './layer-store.ts';
import type { LayerView } from './view.ts';

export interface ImportRequest {
  readonly store: string;
  /** Without one the layer is named after what it holds. */
  readonly name?: string;
  /** A committed layer, or the beginning of its name. */
  readonly parent?: string;
}

export interface ImporterParts {
  readonly inspector: LayerInspector;
  readonly newUuid: () => string;
  /** In hex. */
  readonly sha256: (text: string) => string;
}

/** Marks the active layers that an import fills, so that those which a crash left are known. */
const importLabel = 'varve/import';

/** Somebody else may use the label, too. */
const importKey = /^import-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const digest = /^sha256:[0-9a-f]{64}$/;

/** Makes committed layers of archives. */
export class LayerImporter {
  readonly #parts: ImporterParts;
  readonly #running = new Set<string>();

  constructor(parts: ImporterParts) {
    this.#parts = parts;
  }

  /**
   * Makes a layer of an archive, which can be given back to the byte, or nothing. Without a name it is called as the OCI image spec (config.md, ChainID)
   * identifies it: `sha256:` and the digest of the uncompressed archive, and over a parent that of the parent's name, a space
   * and the archive's digest.
   * @throws AlreadyExists, NotFound for the parent, InvalidArgument for an archive that is broken, FailedPrecondition for a
   * store that an engine owns
   */
  async import(request: ImportRequest, archive: Archive, work: LongWork = {}): Promise<LayerView> {
    this.#parts.inspector.requireNoEngine(request.store);
    const store = await this.#parts.inspector.store(request.store);
    const parent = await this.#parentOf(request);
    if (request.name !== undefined) await refuseTaken(store, request.name);
    const key = `import-${this.#parts.newUuid()}`;
    this.#running.add(key);
    try {
      await store.prepare(key, { labels: { [importLabel]: '' }, ...(parent === null ? {} : { parent }) });
      const { diffId } = await store.apply(key, archive, { ...work, keepOriginal: true });
      const name = request.name ?? this.#chainId(parent, diffId);
      await refuseTaken(store, name);
      await store.commit(name, key);
      return { store: request.store, ...(await store.stat(name)) };
    } catch (error) {
      // What cannot be removed now is found at the next start.
      await store.remove(key).catch(() => undefined);
      throw error;
    } finally {
      this.#running.delete(key);
    }
  }

  /** Removes what an import left that ended with the daemon. */
  async removeLeftovers(storeName: string): Promise<void> {
    const store = await this.#parts.inspector.store(storeName);
    for await (const { name } of store.walk([`kind==active,labels."${importLabel}"`])) {
      if (!importKey.test(name) || this.#running.has(name)) continue;
      await store.remove(name).catch((error: unknown) => {
        // An import that was running when it was found has ended.
        if (!(error instanceof NotFound)) throw error;
      });
    }
  }

  async #parentOf({ name, parent, store }: ImportRequest): Promise<string | null> {
    if (parent === undefined) return null;
    const { info } = await this.#find(parent, store);
    if (name === undefined && !digest.test(info.name)) {
      throw new InvalidArgument(
        `the parent ${show(info.name)} is not named after its digest, and so what rests on it cannot be; choose a name with --name`,
      );
    }
    return info.name;
  }

  async #find(parent: string, store: string): Promise<FoundLayer> {
    try {
      return await this.#parts.inspector.find(parent, store);
    } catch (error) {
      if (error instanceof NotFound) throw new NotFound(`the parent is missing: ${messageOf(error)}`);
      throw error;
    }
  }

  #chainId(parent: string | null, diffId: string): string {
    return parent === null ? diffId : `sha256:${this.#parts.sha256(`${parent} ${diffId}`)}`;
  }
}

async function refuseTaken(store: InspectedStore, name: string): Promise<void> {
  try {
    await store.stat(name);
  } catch (error) {
    if (error instanceof NotFound) return;
    throw error;
  }
  throw new AlreadyExists(
    `the layer ${show(name)} is there already; choose another name with --name, or see it with \`varve layer inspect\``,
  );
}
