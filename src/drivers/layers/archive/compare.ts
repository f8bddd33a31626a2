import { Unimplemented } from '../../../errors/errors.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { shownPath, TreeWalker } from '../../../host/linux/tree-walker.ts';
import type { TreeForm } from './archiver.ts';
import { type Change, ChangeList } from './compare-changes.ts';
import { differs, type Located, type Trust, topDiffers, xattrsOf } from './compare-entries.ts';
import { listDirectory } from './delta.ts';

/** An {@link OpenTree} as numbers, for a worker thread. */
export interface TreeArgs {
  readonly own: number;
  readonly directory: string;
  readonly form: TreeForm;
  readonly below: number | null;
}

/** A {@link Comparison} as numbers, for a worker thread. */
export type ComparisonArgs =
  | { readonly type: 'delta'; readonly tree: TreeArgs }
  | { readonly type: 'trees'; readonly before: number | null; readonly after: number };

/** Bytes of the longest path that an archive may hold: PATH_MAX less its NUL. */
export const longestPath = 4095;

/**
 * What changed, sorted by path, each directory above a change included; below a deleted directory, or one that
 * became something else, nothing is listed. The top, with an empty path, is there when its mode, owner or extended
 * attributes changed. In O(changes) for a delta.
 * @param trust `times` takes files of equal size and mtime for equal
 * @param checkpoint called for each directory, and again and again while content is read; what it throws ends the work
 * @throws FailedPrecondition for a delta that needs what is beneath to be read; Unimplemented for a path over 4095 bytes
 */
export function compare(
  args: ComparisonArgs,
  trust: Trust,
  checkpoint: () => void,
): { readonly changes: readonly Change[]; readonly after: number; readonly form: TreeForm } {
  const [before, after, form]: [number | null, number, TreeForm] =
    args.type === 'delta'
      ? [args.tree.below, args.tree.own, args.tree.form]
      : [args.before, args.after, { type: 'whole' }];
  const comparer = new Comparer(before, after, form, trust, checkpoint);
  return { changes: comparer.run(), after, form };
}

/** A directory that is being compared. */
interface Level {
  /** The entries that are still to be looked at, the next one last. */
  readonly left: (readonly [name: string, status: FileStatus])[];
  /** Stands on the directory of the same path before. */
  readonly before: TreeWalker | undefined;
  /** Whether nothing beneath is seen here. */
  readonly hidden: boolean;
}

class Comparer {
  readonly #before: TreeWalker | undefined;
  readonly #after: TreeWalker;
  readonly #form: TreeForm;
  readonly #trust: Trust;
  readonly #checkpoint: () => void;
  readonly #changes = new ChangeList();

  constructor(before: number | null, after: number, form: TreeForm, trust: Trust, checkpoint: () => void) {
    this.#before = before === null ? undefined : new TreeWalker(before);
    this.#after = new TreeWalker(after);
    this.#form = form;
    this.#trust = trust;
    this.#checkpoint = checkpoint;
  }

  run(): readonly Change[] {
    try {
      this.#top();
      this.#below();
      return this.#changes.finish();
    } finally {
      this.#before?.close();
      this.#after.close();
    }
  }

  #top(): void {
    const status = this.#after.here();
    const after = this.#located(this.#after, '', status, this.#form);
    const changed =
      this.#before === undefined
        ? status.mode !== 0o755 || status.uid !== 0 || status.gid !== 0 || xattrsOf(after).size > 0
        : topDiffers(this.#located(this.#before, '', this.#before.here()), after);
    if (changed) this.#changes.add('', 'modified', status);
  }

  #below(): void {
    const levels = [this.#list(this.#before, false)];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const [name, status] = level.left.pop() ?? [];
      if (name === undefined || status === undefined) {
        levels.pop();
        this.#after.leave();
        level.before?.leave();
        continue;
      }
      const was = level.before?.find(name);
      this.#entry(name, status, level.before, was);
      if (status.type !== 'directory') continue;
      const before = was?.type === 'directory' ? level.before : undefined;
      this.#after.enter(name);
      before?.enter(name);
      levels.push(this.#list(before, level.hidden));
    }
  }

  /**
   * The directory on which both walkers stand; what is deleted from it is noted.
   * @param before undefined when there was none @param below whether an opaque directory is above
   */
  #list(before: TreeWalker | undefined, below: boolean): Level {
    this.#checkpoint();
    const { entries, whiteouts, opaque } = listDirectory(this.#after, this.#form);
    const hidden = opaque || below;
    const names = before === undefined ? [] : hidden ? before.names() : whiteouts;
    for (const name of names) {
      const was = entries.has(name) ? undefined : before?.find(name);
      if (was) this.#changes.add(this.#after.pathOf(name), 'deleted', was);
    }
    return { left: [...entries].reverse(), before, hidden };
  }

  #entry(
    name: string,
    status: FileStatus,
    before: TreeWalker | undefined,
    was: FileStatus | undefined,
  ): void {
    const path = this.#after.pathOf(name);
    if (path.length > longestPath) {
      throw new Unimplemented(
        `the path ${shownPath(path.slice(0, 64))}... has more than ${longestPath} bytes, the most that an archive can hold; move it to a shorter one`,
      );
    }
    const after = this.#located(this.#after, name, status, this.#form);
    if (before === undefined || was === undefined) this.#changes.add(path, 'added', status);
    else if (this.#differs(this.#located(before, name, was), after)) {
      this.#changes.add(path, 'modified', status);
    } else this.#changes.leave(path, was, status);
  }

  /** In a delta the links of a file that was copied up are its own: a layer that changed them holds all of them. */
  #differs(before: Located, after: Located): boolean {
    const { type, nlink } = after.status;
    if (this.#form.type === 'delta' && type !== 'directory' && nlink !== before.status.nlink) return true;
    return differs(before, after, this.#trust, this.#checkpoint);
  }

  #located(
    walker: TreeWalker,
    name: string,
    status: FileStatus,
    form: TreeForm = { type: 'whole' },
  ): Located {
    return { walker, name, status, form };
  }
}
