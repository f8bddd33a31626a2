import { parentOf } from './apply-names.ts';

/**
 * What one archive made in a layer, which no whiteout of the same archive hides, wherever it stands (OCI image spec,
 * layer.md, "Whiteouts").
 *
 * Memory: when the layer was empty one text for each path that was only copied up, since then everything else in it
 * is the archive's; otherwise one text for each path.
 */
export class Made {
  readonly #paths: Set<string> | undefined;
  /** Brought into the layer only so that something could be made in it, or linked to: not the archive's. */
  readonly #copied = new Set<string>();

  constructor(wasEmpty: boolean) {
    this.#paths = wasEmpty ? undefined : new Set();
  }

  /** Whether the layer held something before. */
  get isTracked(): boolean {
    return this.#paths !== undefined;
  }

  /** Also the directories above, in which something is the archive's now. */
  add(path: string): void {
    if (this.#copied.size > 0)
      for (let each = path; each !== ''; each = parentOf(each)) this.#copied.delete(each);
    if (this.#paths === undefined) return;
    for (let each = path; each !== '' && !this.#paths.has(each); each = parentOf(each)) this.#paths.add(each);
  }

  addCopy(path: string): void {
    this.#copied.add(path);
  }

  has(path: string): boolean {
    return !this.#copied.has(path) && (this.#paths === undefined || this.#paths.has(path));
  }
}
