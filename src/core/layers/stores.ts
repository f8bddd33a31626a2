import { NotFound } from '../../errors/errors.ts';
import { show } from '../names.ts';
import type { Layers } from './store.ts';

export interface LayerStoreOpener {
  /** Whether it was opened before, by this daemon or an earlier one. */
  isMade(): Promise<boolean>;
  open(): Promise<Layers>;
}

/**
 * The layer stores of this daemon, by name. Each is opened when it is first asked for; one whose disk is not there
 * is tried again by each who asks.
 */
export class LayerStores {
  readonly #openers: ReadonlyMap<string, LayerStoreOpener>;
  readonly #opened = new Map<string, Promise<Layers>>();

  constructor(openers: ReadonlyMap<string, LayerStoreOpener>) {
    this.#openers = openers;
  }

  get names(): readonly string[] {
    return [...this.#openers.keys()];
  }

  /** The names of those that hold, or have held, layers. */
  async made(): Promise<readonly string[]> {
    const made: string[] = [];
    for (const [name, opener] of this.#openers) if (await opener.isMade()) made.push(name);
    return made;
  }

  /** @throws NotFound for an unknown name; whatever keeps the store from being opened */
  async get(name: string): Promise<Layers> {
    const known = this.#opened.get(name);
    if (known !== undefined) return await known;
    const opener = this.#openers.get(name);
    if (opener === undefined) {
      throw new NotFound(
        `no such layer store: ${show(name)}; the layer stores are: ${this.names.join(', ')}`,
      );
    }
    const opening = opener.open();
    this.#opened.set(name, opening);
    opening.catch(() => this.#opened.delete(name));
    return await opening;
  }

  async close(): Promise<void> {
    for (const result of await Promise.allSettled(this.#opened.values())) {
      if (result.status === 'fulfilled') await result.value.close();
    }
  }
}
