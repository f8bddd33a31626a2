import type { LayerInfo } from '../../core/layers/layer-store.ts';
import type { EngineUsers, LayerEngine } from '../../core/layers/users.ts';
import type { LayerUser } from '../../core/layers/view.ts';
import type { DockerEngine } from './engine.ts';

/**
 * What a Docker keeps in a store through a graph driver: `docker inspect` has what our GetMetadata told of the topmost
 * layer. Its build cache is in no API, so that a layer that nobody names is not leaked for that.
 */
export class DockerLayers implements LayerEngine {
  readonly #engine: Pick<DockerEngine, 'graphs'>;
  readonly #store: string;

  /** @param store the name that our GetMetadata gives */
  constructor(engine: Pick<DockerEngine, 'graphs'>, store: string) {
    this.#engine = engine;
    this.#store = store;
  }

  async users(layers: readonly LayerInfo[]): Promise<EngineUsers> {
    const known = new Set(layers.map(({ name }) => name));
    const users = new Map<string, LayerUser[]>();
    for (const { kind, names, data } of await this.#engine.graphs()) {
      const layer = data?.['Store'] === this.#store ? data['Layer'] : undefined;
      if (typeof layer !== 'string' || !known.has(layer)) continue;
      users.set(layer, [...(users.get(layer) ?? []), ...names.map(name => ({ kind, name }))]);
    }
    return { users, leaked: new Set() };
  }

  /** It removes a layer at once, or never: there is nothing to collect. */
  async collect(): Promise<void> {}
}
