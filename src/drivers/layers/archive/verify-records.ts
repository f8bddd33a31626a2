import { type DigestRecord, type Digests, readDigests } from './digests.ts';

export interface Found {
  readonly record: DigestRecord;
  /** Whether the layer itself recorded it. */
  readonly own: boolean;
  /** 0 for the layer itself, then one for each layer beneath. */
  readonly layer: number;
}

/** The records of a layer and of those beneath it. */
export class Records {
  readonly #layers: readonly Digests[];
  /** Files with records that are not as they were written. */
  readonly damaged: readonly string[];

  private constructor(layers: readonly Digests[], damaged: readonly string[]) {
    this.#layers = layers;
    this.damaged = damaged;
  }

  static read(own: string, inherited: readonly string[]): Records {
    const files = [own, ...inherited].map(path => ({ path, digests: readDigests(path) }));
    const damaged = files.filter(({ digests }) => digests === 'damaged').map(({ path }) => path);
    const none: Digests = new Map();
    return new Records(
      files.map(({ digests }) => (digests === 'damaged' ? none : (digests ?? none))),
      damaged,
    );
  }

  get any(): boolean {
    return this.#layers.some(layer => layer.size > 0);
  }

  /** The nearest record of a path. */
  find(path: string): Found | undefined {
    for (const [layer, digests] of this.#layers.entries()) {
      const record = digests.get(path);
      if (record) return { record, own: layer === 0, layer };
    }
    return undefined;
  }

  /** The nearest record of each path. */
  *all(): Generator<Found> {
    for (const [layer, digests] of this.#layers.entries()) {
      for (const [path, record] of digests) {
        if (this.#layers.slice(0, layer).some(nearer => nearer.has(path))) continue;
        yield { record, own: layer === 0, layer };
      }
    }
  }

  /**
   * Whether a recorded path that is not there any more was deleted before the commit, and not lost: then the nearest
   * directory above that is still there changed after it was recorded, or was recorded anew by a nearer layer.
   * @param there the time of last change of all that exists, by path
   */
  wasDeleted({ record, layer }: Found, there: ReadonlyMap<string, bigint>, committedNs: bigint): boolean {
    const path = record.path.toString('latin1');
    for (let above = parentOf(path); ; above = parentOf(above)) {
      const changed = there.get(above);
      if (changed === undefined && above !== '') continue;
      if (changed === undefined || changed > committedNs) return false;
      const known = this.find(above);
      return known === undefined || known.layer < layer || known.record.ctimeNs !== changed;
    }
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
