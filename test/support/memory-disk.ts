import type {
  Attributes,
  CopyProgress,
  Directory,
  DirectoryOptions,
  Disk,
  Usage,
} from '../../src/core/ports.ts';
import { Aborted, AlreadyExists, FailedPrecondition, NotFound } from '../../src/errors/errors.ts';

interface Node {
  /** Undefined for a directory. */
  readonly text: string | undefined;
  readonly attributes: Attributes;
  readonly immutable: boolean;
}

type Nodes = Map<string, Node>;

const plain: Attributes = { uid: 0, gid: 0, mode: 0o755 };

/** A change puts a new node, and so a new id, in a path's place. */
const ids = new WeakMap<Node, string>();
let lastId = 0;

/** What a copy does; it may write into the target before it ends. */
export type CopyTree = Disk['copyTree'];

/** A file system in memory, for tests that run thousands of times. Its paths are absolute. */
export class MemoryDisk implements Disk {
  readonly #nodes: Nodes = new Map();
  readonly #away = new Map<string, Nodes>();
  /** Symbolic links to directories, by path: only {@link realDirectory} follows them. */
  readonly links = new Map<string, string>();
  /** What `copyTree` does: a test that wants to watch or hold a copy puts its own here. */
  copy: CopyTree = (source, target, path, options) => this.#copyNow(source, target, path, options);

  async open(path: string, options: { readonly make?: boolean } = {}): Promise<Directory> {
    if (options.make) this.makePath(path);
    if (!(await this.isDirectory(path))) throw new NotFound(`cannot open ${path}: it does not exist`);
    return new MemoryDirectory(path, this.#nodes);
  }

  async isDirectory(path: string): Promise<boolean> {
    return this.#nodes.get(path)?.text === undefined && this.#nodes.has(path);
  }

  async realDirectory(path: string): Promise<string | undefined> {
    for (const [link, target] of this.links) {
      if (`${path}/`.startsWith(`${link}/`)) return this.realDirectory(`${target}${path.slice(link.length)}`);
    }
    return path === '/' || (await this.isDirectory(path)) ? path : undefined;
  }

  copyTree(
    source: string,
    target: Directory,
    path: string,
    options: { readonly signal: AbortSignal; readonly onProgress: (progress: CopyProgress) => void },
  ): Promise<void> {
    return this.copy(source, target, path, options);
  }

  /** Makes a directory with its parents. */
  makePath(path: string): void {
    for (const match of path.matchAll(/\/[^/]+/g)) {
      const parent = path.slice(0, match.index + match[0].length);
      if (!this.#nodes.has(parent)) this.#nodes.set(parent, directory(plain));
    }
  }

  write(path: string, text: string): void {
    this.makePath(path.slice(0, path.lastIndexOf('/')));
    this.#nodes.set(path, { text, attributes: plain, immutable: false });
  }

  read(path: string): string | undefined {
    return this.#nodes.get(path)?.text;
  }

  /** Every path, sorted. */
  paths(): readonly string[] {
    return [...this.#nodes.keys()].sort();
  }

  /** The file system on `path` goes; what is left is the bare directory that it was mounted on. */
  takeAway(path: string): void {
    const away = below(this.#nodes, path);
    this.#away.set(path, away);
    for (const key of away.keys()) this.#nodes.delete(key);
  }

  bringBack(path: string): void {
    for (const key of below(this.#nodes, path).keys()) this.#nodes.delete(key);
    for (const [key, node] of this.#away.get(path) ?? []) this.#nodes.set(key, node);
  }

  async #copyNow(source: string, target: Directory, path: string, options: Parameters<CopyTree>[3]) {
    const root = this.#nodes.get(source);
    if (root === undefined) throw new NotFound(`cannot copy ${source}: it does not exist`);
    if (options.signal.aborted) throw new Aborted(`the copy of ${source} was stopped`);
    options.onProgress({ doneBytes: 0, totalBytes: 1 });
    for (const [key, node] of [[source, root] as const, ...below(this.#nodes, source)]) {
      this.#nodes.set(`${target.path}/${path}${key.slice(source.length)}`, node);
    }
    options.onProgress({ doneBytes: 1, totalBytes: 1 });
  }
}

class MemoryDirectory implements Directory {
  readonly path: string;
  readonly #nodes: Nodes;

  constructor(path: string, nodes: Nodes) {
    this.path = path;
    this.#nodes = nodes;
  }

  async fingerprint(path: string): Promise<string | undefined> {
    const node = this.#nodes.get(this.#at(path));
    if (node === undefined) return undefined;
    const id = ids.get(node) ?? String(++lastId);
    ids.set(node, id);
    return id;
  }

  async makeDirectory(path: string, options: DirectoryOptions = {}): Promise<void> {
    const { exist, durable: _, ...attributes } = options;
    const there = this.#nodes.get(this.#at(path));
    if (there !== undefined && (exist !== 'ok' || there.text !== undefined)) {
      throw new AlreadyExists(`cannot make ${path}: it exists already`);
    }
    if (there === undefined) {
      this.#checkParent(path);
      this.#nodes.set(this.#at(path), directory({ ...plain, ...attributes }));
    } else await this.setAttributes(path, attributes);
  }

  async setAttributes(path: string, attributes: Partial<Attributes>): Promise<void> {
    const node = this.#get(path);
    if (node.immutable && Object.keys(attributes).length > 0) throw new FailedPrecondition(`${path} EPERM`);
    this.#nodes.set(this.#at(path), { ...node, attributes: { ...node.attributes, ...attributes } });
  }

  async attributes(path: string): Promise<Attributes> {
    return this.#get(path).attributes;
  }

  async readFile(path: string): Promise<string | undefined> {
    return this.#nodes.get(this.#at(path))?.text;
  }

  async writeFile(path: string, text: string): Promise<void> {
    this.#checkParent(path);
    this.#nodes.set(this.#at(path), { text, attributes: plain, immutable: false });
  }

  async rename(from: string, to: string): Promise<void> {
    this.#get(from);
    if (await this.exists(to)) throw new AlreadyExists(`cannot move ${from}: ${to} exists already`);
    this.#checkParent(to);
    for (const [key, node] of [...this.#below(from), [this.#at(from), this.#get(from)] as const]) {
      this.#nodes.delete(key);
      this.#nodes.set(this.#at(to) + key.slice(this.#at(from).length), node);
    }
  }

  async sync(): Promise<void> {}

  async exists(path: string): Promise<boolean> {
    return this.#nodes.has(this.#at(path));
  }

  async list(path: string): Promise<readonly string[]> {
    this.#get(path);
    const from = this.#at(path).length + 1;
    const names = [...this.#below(path).keys()].map(key => key.slice(from)).filter(key => !key.includes('/'));
    return names.sort();
  }

  async removeTree(path: string): Promise<void> {
    for (const key of this.#below(path).keys()) this.#nodes.delete(key);
    this.#nodes.delete(this.#at(path));
  }

  async removeDirectory(path: string): Promise<void> {
    if (this.#below(path).size > 0) throw new FailedPrecondition(`cannot remove ${path}: it is not empty`);
    if (this.#nodes.get(this.#at(path))?.immutable) throw new FailedPrecondition(`${path} EPERM`);
    this.#nodes.delete(this.#at(path));
  }

  async setImmutable(path: string, immutable: boolean): Promise<boolean> {
    this.#nodes.set(this.#at(path), { ...this.#get(path), immutable });
    return true;
  }

  async usage(path: string, signal: AbortSignal): Promise<Usage> {
    signal.throwIfAborted();
    this.#get(path);
    const nodes = [...this.#below(path).values()];
    return { bytes: nodes.reduce((sum, { text }) => sum + (text?.length ?? 0), 0), inodes: nodes.length + 1 };
  }

  async space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return { freeBytes: 1_000_000, totalBytes: 2_000_000 };
  }

  async close(): Promise<void> {}

  #at(path: string): string {
    return path === '.' ? this.path : `${this.path}/${path}`;
  }

  #below(path: string): Nodes {
    return below(this.#nodes, this.#at(path));
  }

  #get(path: string): Node {
    const node = this.#nodes.get(this.#at(path));
    if (node === undefined) throw new NotFound(`${this.#at(path)} does not exist`);
    return node;
  }

  #checkParent(path: string): void {
    const parent = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.';
    if (this.#get(parent).text !== undefined) throw new FailedPrecondition(`${parent} is not a directory`);
  }
}

function directory(attributes: Attributes): Node {
  return { text: undefined, attributes, immutable: false };
}

function below(nodes: Nodes, path: string): Nodes {
  return new Map([...nodes].filter(([key]) => key.startsWith(`${path}/`)));
}
