/** What an engine says of the layers that it keeps in a store of varve. */
import type { LayerInfo } from './layer-store.ts';
import type { LayerUser } from './view.ts';

export interface EngineUsers {
  /** By names of layers: who stands on a layer directly. What is beneath it is needed for the same. */
  readonly users: ReadonlyMap<string, readonly LayerUser[]>;
  /**
   * Names of topmost layers that nothing of the engine refers to, so that its own collector would remove them. Empty for
   * an engine that cannot tell.
   */
  readonly leaked: ReadonlySet<string>;
}

/**
 * The engine that owns a store, as somebody who looks at layers asks it. Nobody may ask on a request path of the
 * engine: it waits for us then.
 */
export interface LayerEngine {
  /** @throws Unavailable, DeadlineExceeded */
  users(layers: readonly LayerInfo[]): Promise<EngineUsers>;
  /** Lets the engine remove what nothing of it refers to. @throws Unavailable, DeadlineExceeded, Unimplemented */
  collect(): Promise<void>;
}
