import type { Verification, VerificationProblem } from '../../../core/layers/layer-store.ts';
import { Internal, Unavailable } from '../../../errors/errors.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { bytesOf, TreeWalker, walkTree } from '../../../host/linux/tree-walker.ts';
import { measureTreeNow } from '../../../host/linux/usage.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import type { TreeArgs } from './compare.ts';
import { inode } from './compare-changes.ts';
import { targetOf, withFile } from './compare-entries.ts';
import { contentCrc } from './content-crc.ts';
import { attributesCrc, type DigestRecord, DigestWriter, digestsPath } from './digests.ts';
import { Progress } from './progress.ts';
import { type Found, Records } from './verify-records.ts';
import { readXattrs } from './walk-xattrs.ts';

export interface VerifyArgs {
  readonly tree: TreeArgs;
  /** The `digests` files of the layers beneath, nearest first, for a whole tree. */
  readonly inherited: readonly string[];
  /** RFC 3339. */
  readonly committedAt: string;
}

/** The record of a layer cuts its moment off to milliseconds. */
const nsPerMs = 1_000_000n;

/**
 * Reads a whole layer again and compares it with what was recorded when it was written.
 *
 * What differs and has an inode that changed before the commit was changed by whoever used the layer, and is recorded
 * as it is now; any other difference is a problem, and its record stays, so that it is reported again. When a file
 * with records is damaged itself it is reported by its absolute path on the host, and nothing of it is believed or
 * replaced. Directories are checked, and not counted.
 */
export function verifyTask({ tree, inherited, committedAt }: VerifyArgs, context: TaskContext): Verification {
  const records = Records.read(digestsPath(tree.directory), inherited);
  if (records.damaged.length > 0) {
    const problems = records.damaged.map(path => ({ path, problem: 'unreadable' }) as const);
    return { verified: 0, recorded: 0, bytes: 0, problems };
  }
  const verifier = new Verifier(tree, records, committedAt, context);
  const verification = verifier.run();
  if (verifier.news) save(tree.directory, verifier.kept);
  return verification;
}

function save(directory: string, records: Iterable<DigestRecord>): void {
  const writer = new DigestWriter(directory, false);
  try {
    for (const record of records) writer.add(record);
    writer.finish();
  } catch (error) {
    writer.discard();
    throw error;
  }
}

class Verifier {
  readonly #records: Records;
  readonly #walker: TreeWalker;
  readonly #progress: Progress;
  readonly #committedNs: bigint;
  readonly #problems: VerificationProblem[] = [];
  /** Content of files with several names, which are read once. */
  readonly #linked = new Map<string, number>();
  /** Everything that exists, and when it changed. */
  readonly #seen = new Map<string, bigint>();
  #verified = 0;
  #recorded = 0;
  #bytes = 0;
  /** What the layer's own records are from now on, and whether that is something new. */
  readonly kept: DigestRecord[] = [];
  news = false;

  constructor(tree: TreeArgs, records: Records, committedAt: string, context: TaskContext) {
    this.#records = records;
    this.#walker = new TreeWalker(tree.own);
    this.#progress = new Progress(
      measureTreeNow(tree.own, () => context.throwIfAborted()).apparentBytes,
      context,
    );
    this.#committedNs = BigInt(Date.parse(committedAt)) * nsPerMs + nsPerMs;
  }

  run(): Verification {
    try {
      const unreadable = (error: unknown, path: string) => {
        if (!isDiskFailure(error)) return false;
        const known = this.#records.find(path);
        this.#problem(path, 'unreadable', known);
        // What is below is missing, not deleted.
        this.#seen.set(path, known?.record.ctimeNs ?? this.#committedNs + 1n);
        return true;
      };
      for (const { name, event, status } of walkTree(this.#walker, unreadable)) {
        if (event === 'entry') this.#entry(name, status);
      }
    } finally {
      this.#walker.close();
    }
    this.#missing();
    this.#progress.end();
    return {
      verified: this.#verified,
      recorded: this.#recorded,
      bytes: this.#bytes,
      problems: this.#problems,
    };
  }

  #entry(name: string, status: FileStatus): void {
    const path = this.#walker.pathOf(name);
    this.#seen.set(path, status.ctimeNs);
    const known = this.#records.find(path);
    const now = this.#read(path, name, status);
    if (now === undefined) {
      this.#problem(path, 'unreadable', known);
      return;
    }
    const late = status.ctimeNs > this.#committedNs;
    const problem = judge(now, known?.record, late, this.#records.any);
    if (problem !== undefined) this.#problem(path, problem, known);
    else this.#keep(now, known);
  }

  #keep(now: DigestRecord, known: Found | undefined): void {
    const equal = known !== undefined && sameState(now, known.record);
    if (now.type !== 'directory') {
      if (equal) this.#verified += 1;
      else this.#recorded += 1;
    }
    // What a layer beneath recorded of the very same inode need not be recorded again.
    if (equal && !known.own && now.ctimeNs === known.record.ctimeNs) return;
    this.kept.push(now);
    if (!equal || !known.own || now.ctimeNs !== known.record.ctimeNs) this.news = true;
  }

  #problem(path: string, problem: VerificationProblem['problem'], known: Found | undefined): void {
    this.#problems.push({ path: `/${bytesOf(path).toString()}`, problem });
    if (known?.own) this.kept.push(known.record);
  }

  /** @returns undefined when the disk does not give it */
  #read(path: string, name: string, status: FileStatus): DigestRecord | undefined {
    const { type, device, ctimeNs } = status;
    try {
      const content = type === 'file' ? this.#content(name, status) : 0;
      const linkTarget = type === 'symlink' ? targetOf({ walker: this.#walker, name }) : Buffer.alloc(0);
      const xattrs = readXattrs([this.#walker.fd, bytesOf(name)]);
      const attributes = attributesCrc({ ...status, device, linkTarget, xattrs });
      const size = type === 'file' ? status.size : 0;
      return { path: bytesOf(path), type, size, content, attributes, ctimeNs };
    } catch (error) {
      if (isDiskFailure(error)) return undefined;
      throw error;
    }
  }

  #content(name: string, status: FileStatus): number {
    const known = status.nlink > 1 ? this.#linked.get(inode(status)) : undefined;
    if (known !== undefined) return known;
    const each = (bytes: number) => {
      this.#bytes += bytes;
      this.#progress.add(bytes);
    };
    const crc = withFile({ walker: this.#walker, name }, fd => contentCrc(fd, status.size, each));
    if (status.nlink > 1) this.#linked.set(inode(status), crc);
    return crc;
  }

  #missing(): void {
    for (const found of this.#records.all()) {
      const path = found.record.path.toString('latin1');
      if (this.#seen.has(path)) continue;
      if (this.#records.wasDeleted(found, this.#seen, this.#committedNs)) this.news ||= found.own;
      else this.#problem(path, 'missing', found);
    }
  }
}

/** @param late whether the inode changed after the commit @param any whether there are records at all */
function judge(
  now: DigestRecord,
  known: DigestRecord | undefined,
  late: boolean,
  any: boolean,
): VerificationProblem['problem'] | undefined {
  if (known === undefined) return late && any ? 'unexpected' : undefined;
  if (sameState(now, known)) return undefined;
  const changedBeforeCommit = now.ctimeNs !== known.ctimeNs && !late;
  if (changedBeforeCommit) return undefined;
  return now.content !== known.content || now.size !== known.size ? 'content differs' : 'attributes differ';
}

function sameState(one: DigestRecord, other: DigestRecord): boolean {
  return (
    one.type === other.type &&
    one.size === other.size &&
    one.content === other.content &&
    one.attributes === other.attributes
  );
}

/** A sector that cannot be read, or a structure that makes no sense: what verification looks for. */
function isDiskFailure(error: unknown): boolean {
  return error instanceof Unavailable || error instanceof Internal;
}
