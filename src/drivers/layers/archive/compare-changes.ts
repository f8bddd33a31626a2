import type { LayerChange } from '../../../core/layers/layer-store.ts';
import type { FileStatus, FileType } from '../../../host/linux/file-status.ts';

/** What happened to one path; paths as in walk.ts. */
export interface Change {
  readonly path: string;
  readonly kind: LayerChange['kind'];
  /** What it is now, or was before it was deleted. */
  readonly type: FileType;
  /** Length of a regular file, counted for the first of its hard links; otherwise 0. */
  readonly size: number;
}

interface Unchanged {
  readonly path: string;
  readonly before: FileStatus;
  readonly after: FileStatus;
}

/** Collects changes, and completes them with what follows from them. */
export class ChangeList {
  readonly #changes = new Map<string, Change>();
  readonly #changedInodes = new Set<string>();
  /** Of the changed files that have several names. */
  readonly #inodes = new Map<string, string>();
  readonly #unchanged: Unchanged[] = [];

  add(path: string, kind: Change['kind'], status: FileStatus): void {
    const { type, nlink } = status;
    this.#changes.set(path, { path, kind, type, size: type === 'file' ? status.size : 0 });
    if (kind === 'deleted' || type === 'directory' || nlink === 1) return;
    this.#changedInodes.add(inode(status));
    this.#inodes.set(path, inode(status));
  }

  /** Only those that have, or had, other names are of interest. */
  leave(path: string, before: FileStatus, after: FileStatus): void {
    if (before.type === 'directory' || (before.nlink === 1 && after.nlink === 1)) return;
    this.#unchanged.push({ path, before, after });
  }

  /** Sorted, a directory before what is below it. */
  finish(): readonly Change[] {
    this.#addRelinked();
    for (const path of [...this.#changes.keys()]) this.#addParents(path);
    const counted = new Set<string>();
    return [...this.#changes.values()]
      .map(change => [sortKey(change.path), change] as const)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([, change]) => this.#countedOnce(change, counted));
  }

  /** @param counted the files that came before */
  #countedOnce(change: Change, counted: Set<string>): Change {
    const file = this.#inodes.get(change.path);
    if (file === undefined) return change;
    const isCounted = counted.has(file);
    counted.add(file);
    return isCounted ? { ...change, size: 0 } : change;
  }

  /** A file that got a further name, or shares its inode no longer, is changed though nothing else of it is. */
  #addRelinked(): void {
    const before = Map.groupBy(this.#unchanged, file => inode(file.before));
    for (const names of before.values()) {
      const original = names.find(file => file.before.ino === file.after.ino) ?? names[0];
      for (const { path, after } of names) {
        const separated = original !== undefined && inode(after) !== inode(original.after);
        if (separated || this.#changedInodes.has(inode(after))) this.add(path, 'modified', after);
      }
    }
  }

  #addParents(path: string): void {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const above = path.slice(0, end);
      if (this.#changes.has(above)) return;
      this.#changes.set(above, { path: above, kind: 'modified', type: 'directory', size: 0 });
    }
  }
}

/** NUL comes before every byte of a name: so what is below a directory follows it. */
export function sortKey(path: string): string {
  return path.replaceAll('/', '\0');
}

/** What the hard links of one file have in common. */
export function inode({ dev, ino }: FileStatus): string {
  return `${dev}:${ino}`;
}
