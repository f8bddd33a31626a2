import { posix } from 'node:path';
import type { Mount, MountEntry, MountUser } from '../../core/mount.ts';
import type { Mounter } from '../../core/ports.ts';
import { FailedPrecondition } from '../../errors/errors.ts';

/** What a {@link FakeMounter} did, in order. */
export type MountAction = { readonly mount: Mount } | { readonly unmount: string };

interface FakeMount {
  readonly id: number;
  readonly pid: number;
  readonly source: string;
  readonly target: string;
  readonly readonly: boolean;
  readonly fsType: string;
}

type Shown = Omit<FakeMount, 'id' | 'pid'>;
type Operation = 'mount' | 'unmount' | 'table' | 'users' | 'visibleTo';

/**
 * A mount table in memory: one file system, whose paths are the roots of its mounts. Paths need not exist.
 * Each foreign process stands for a mount namespace of its own.
 */
export class FakeMounter implements Mounter {
  /** What changed the table; what was there already does not count. */
  readonly actions: MountAction[] = [];
  readonly #mounts: FakeMount[] = [];
  readonly #failures = new Map<Operation, Error>();
  readonly #blind = new Set<number>();
  #nextId = 100;

  /** Makes the next call of this operation reject. */
  failNext(operation: Operation, error: Error): void {
    this.#failures.set(operation, error);
  }

  /** The process `pid` has `directory` mounted in its own namespace, as a container has. */
  useFrom(pid: number, directory: string, mountPoint: string): void {
    this.#add(pid, { source: directory, target: mountPoint, readonly: false, fsType: 'fake' });
  }

  /** The process ends, and its namespace with it. */
  endProcess(pid: number): void {
    for (const mount of this.#mounts.filter(entry => entry.pid === pid)) this.#drop(mount);
  }

  /** From now on nothing that is mounted reaches the process `pid`. */
  hideFrom(pid: number): void {
    this.#blind.add(pid);
  }

  async mount(mount: Mount): Promise<void> {
    this.#failWhenAsked('mount');
    const there = this.#at(mount.target);
    const shown = asShown(mount);
    const wanted =
      there !== undefined && shown.source === mount.target
        ? { ...there, ...shown, source: there.source }
        : shown;
    if (there === undefined) {
      this.#add(process.pid, wanted);
      this.actions.push({ mount });
    } else if (there.source !== wanted.source || (there.readonly && !wanted.readonly)) {
      throw new FailedPrecondition(`something else is mounted on ${mount.target}; unmount that first`);
    } else if (wanted.readonly && !there.readonly) {
      this.#drop(there);
      this.#add(process.pid, wanted);
    }
  }

  async unmount(target: string): Promise<void> {
    this.#failWhenAsked('unmount');
    const there = this.#mounts.filter(entry => entry.pid === process.pid && entry.target === target);
    if (there.length === 0) return;
    for (const mount of there) this.#drop(mount);
    this.actions.push({ unmount: target });
  }

  async table(): Promise<readonly MountEntry[]> {
    this.#failWhenAsked('table');
    return this.#mounts.filter(entry => entry.pid === process.pid).map(toEntry);
  }

  async users(directory: string, except: string): Promise<readonly MountUser[]> {
    this.#failWhenAsked('users');
    return this.#mounts
      .filter(({ source, target }) => isWithin(source, directory) && !isWithin(target, except))
      .map(({ pid, target }) => ({ pid, mountPoint: target }));
  }

  async visibleTo(pid: number, target: string): Promise<boolean> {
    this.#failWhenAsked('visibleTo');
    const own = this.#mounts.some(entry => entry.pid === pid && entry.target === target);
    return own || (!this.#blind.has(pid) && this.#at(target) !== undefined);
  }

  #at(target: string): FakeMount | undefined {
    return this.#mounts.findLast(entry => entry.pid === process.pid && entry.target === target);
  }

  #add(pid: number, shown: Shown): void {
    this.#mounts.push({ id: this.#nextId, pid, ...shown });
    this.#nextId += 1;
  }

  #drop(mount: FakeMount): void {
    this.#mounts.splice(this.#mounts.indexOf(mount), 1);
  }

  #failWhenAsked(operation: Operation): void {
    const failure = this.#failures.get(operation);
    this.#failures.delete(operation);
    if (failure) throw failure;
  }
}

/** The source of a union is what it shows; the order of its options says nothing. */
function asShown(mount: Mount): Shown {
  const { target } = mount;
  if (mount.type === 'bind') {
    return { source: mount.source, target, readonly: mount.readonly, fsType: 'fake' };
  }
  const directories = mount.options.filter(option => /^(lower|upper)dir=/.test(option)).sort();
  const isWritable = directories.some(option => option.startsWith('upperdir='));
  return { source: directories.join(','), target, readonly: !isWritable, fsType: mount.type };
}

function toEntry({ id, source, target, readonly, fsType }: FakeMount): MountEntry {
  return {
    id,
    parent: 1,
    device: '0:1',
    root: source,
    mountPoint: target,
    options: [readonly ? 'ro' : 'rw', 'relatime'],
    propagation: ['shared:1'],
    fsType,
    source: 'fake',
    superOptions: ['rw'],
  };
}

function isWithin(path: string, base: string): boolean {
  const relative = posix.relative(base, path);
  return relative === '' || !(relative === '..' || relative.startsWith('../'));
}
