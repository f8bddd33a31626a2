import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  Applied,
  ApplyWork,
  Archive,
  LayerChange,
  LongWork,
  Verification,
} from '../../../core/layers/layer-store.ts';
import type { CopyProgress, Usage } from '../../../core/ports.ts';
import { Aborted, FailedPrecondition, Internal } from '../../../errors/errors.ts';
import { openPipe } from '../../../host/linux/pipe.ts';
import { cancelled, WorkerPool } from '../../../lib/worker-pool.ts';
import type { ApplyArgs, Unpacked } from './apply.ts';
import { type Feed, openFeed } from './apply-feed.ts';
import type { Archiver, Comparison, Deltas, DiffStream, OpenTree, View } from './archiver.ts';
import type { ComparisonArgs, TreeArgs } from './compare.ts';
import { makeFileQueue } from './file-queue.ts';
import { Offer, patiently } from './patience.ts';
import { endRing, makeRing } from './ring.ts';

const idleMs = 60_000;
/** How long a peer may take to send or take the next bytes, in milliseconds. */
const tenMinutes = 600_000;
/**
 * How many archives are read, and how many are written, at one time. Such a worker waits for its peer, so that there
 * are more of them than processors; the next one waits in order. Each takes some 10 MB.
 */
const peersAtOnce = 16;

/** The tasks of `src/worker.ts`. */
const tasks = [
  ...['apply', 'digest', 'writeFiles', 'diff', 'original'],
  ...['changes', 'copy', 'measure', 'measureDifference', 'merge', 'verify'],
] as const;
type TaskName = (typeof tasks)[number];
/** Digests of what is given back have threads of their own: who reads slowly keeps nothing from being unpacked. */
const pools = [...tasks, 'digestOfOriginal'] as const;
type PoolName = (typeof pools)[number];
const withPeers: ReadonlySet<string> = new Set([
  ...['apply', 'digest', 'writeFiles', 'diff', 'original', 'digestOfOriginal'],
]);

/**
 * An {@link Archiver} whose work is done by the threads of `src/worker.ts`. Each kind of work has threads of its own:
 * whoever does not read a difference, or does not send an archive on, keeps nobody from committing a layer. For each
 * one that unpacks there is one that takes the digest and one that writes files, so that none waits for them.
 */
export class WorkerArchiver implements Archiver {
  readonly #pools: ReadonlyMap<string, WorkerPool>;
  readonly #closing = new AbortController();
  readonly #patience: number;

  /** @param script the worker's @param patience how long a peer is waited for, in milliseconds */
  constructor(script: URL, patience = tenMinutes) {
    const size = Math.max(2, availableParallelism());
    this.#patience = patience;
    this.#pools = new Map(
      pools.map(pool => [
        pool,
        new WorkerPool(script, { size: withPeers.has(pool) ? peersAtOnce : size, idleMs }),
      ]),
    );
  }

  async apply(tree: OpenTree, archive: Archive, work: ApplyWork): Promise<Applied> {
    const { signal, onProgress, keepOriginal = false } = work;
    const failed = new AbortController();
    const stop = this.#stop(signal, failed.signal);
    const feed = await openFeed('path' in archive ? archive : patiently(archive, this.#patience, stop), stop);
    const [ring, files] = [makeRing(), makeFileQueue()];
    const { fd, isFile } = feed;
    const args: ApplyArgs = { tree: treeArgs(tree), archive: { fd, isFile }, ring, files, keepOriginal };
    const report = (read: unknown) => onProgress?.(progressOf(feed, Number(read)));
    const unpacked = this.#pool('apply')
      .run<Unpacked>('apply', args, { signal: stop, onProgress: report })
      .finally(() => endRing(files.ring));
    // In turns: to start a thread keeps the main thread busy for some 20 ms.
    const turn = nextTurn();
    const digest = turn.then(() => this.#pool('digest').run<string>('digest', { ring }, { signal: stop }));
    const { form, directory } = tree;
    const written = turn
      .then(() => nextTurn())
      .then(() => this.#pool('writeFiles').run('writeFiles', { files, form, directory }, { signal: stop }));
    for (const beside of [digest, written]) beside.catch(() => failed.abort());
    try {
      const { size, bytes, entries } = await unpacked;
      await feed.filled;
      await written;
      return { diffId: await digest, size, bytes, entries };
    } catch (error) {
      // Ending the feed is a failure of it, too.
      const failure = feed.failure();
      failed.abort();
      const outcomes = await Promise.allSettled([unpacked, digest, written]);
      // The feed ends before the workers are told to stop: one of them may have taken that for the end of the archive.
      if (signal?.aborted || this.#closing.signal.aborted) throw cancelled('apply');
      throw failure ?? causeOf(outcomes) ?? error;
    } finally {
      await feed.close();
    }
  }

  diff(comparison: Comparison, work: LongWork): DiffStream {
    return this.#stream('diff', { comparison: comparisonArgs(comparison) }, work);
  }

  original(
    { tree, original }: { readonly tree: OpenTree; readonly original: View },
    diffId: string,
    { signal, onProgress }: LongWork,
  ): DiffStream {
    const failed = new AbortController();
    const stop = this.#stop(signal, failed.signal);
    const ring = makeRing();
    const digest = this.#pool('digestOfOriginal').run<string>('digest', { ring }, { signal: stop });
    const work = { signal: stop, ...(onProgress && { onProgress }) };
    const args = { tree: treeArgs(tree), original: original.fd, ring };
    const stream = this.#stream('original', args, work, () => failed.abort());
    digest.catch(() => failed.abort());
    return { bytes: onlyIf(stream.bytes, digest, diffId), ended: stream.ended };
  }

  /** @param onFailure is called when the worker fails */
  #stream(
    name: TaskName,
    args: object,
    { signal, onProgress }: LongWork,
    onFailure: () => void = () => {},
  ): DiffStream {
    const { reader, writer } = openPipe();
    const late = new AbortController();
    const stop = this.#stop(signal, late.signal);
    const work = { signal: stop, onProgress };
    const task = this.#run<void>(name, { ...args, sink: writer }, work).finally(() => closeSync(writer));
    task.catch(onFailure);
    const stream = new Socket({ fd: reader, readable: true, writable: false });
    // The worker may be waiting for a reader that is no more interested.
    const end = () => void stream.destroy();
    stop.addEventListener('abort', end, { once: true });
    const offer = new Offer(this.#patience, () => late.abort());
    const ended = task.catch(() => undefined);
    const close = async () => {
      stop.removeEventListener('abort', end);
      end();
      await ended;
    };
    return { bytes: takenFrom(stream, task, offer, close), ended };
  }

  async changes(comparison: Comparison, work: LongWork): Promise<readonly LayerChange[]> {
    return await this.#run('changes', { comparison: comparisonArgs(comparison) }, work);
  }

  async measure(tree: View, signal?: AbortSignal): Promise<Usage> {
    return await this.#run('measure', { tree: tree.fd }, { signal });
  }

  async measureDifference(before: View, after: View, signal?: AbortSignal): Promise<Usage> {
    return await this.#run('measureDifference', { before: before.fd, after: after.fd }, { signal });
  }

  async verify(
    tree: OpenTree,
    inherited: readonly string[],
    committedAt: string,
    work: LongWork,
  ): Promise<Verification> {
    return await this.#run('verify', { tree: treeArgs(tree), inherited, committedAt }, work);
  }

  async copy(from: View, into: View, work: LongWork): Promise<void> {
    await this.#run('copy', { from: from.fd, into: into.fd }, work);
  }

  async merge(deltas: Deltas, signal?: AbortSignal): Promise<void> {
    const { upper, lower, below, into, prefix, redirects } = deltas;
    const fds = { upper: upper.fd, lower: lower.fd, below: below?.fd ?? null, into: into.fd };
    await this.#run('merge', { ...fds, prefix, redirects }, { signal });
  }

  /** Stops all work. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#pools.values()].map(pool => pool.close()));
  }

  async #run<T>(task: TaskName, args: unknown, { signal, onProgress }: Work): Promise<T> {
    const report = onProgress && ((value: unknown) => onProgress(value as CopyProgress));
    return await this.#pool(task).run<T>(task, args, { signal, onProgress: report });
  }

  #pool(task: PoolName): WorkerPool {
    const pool = this.#pools.get(task);
    if (pool === undefined) throw new Internal(`no worker does "${task}"; the build is broken`);
    return pool;
  }

  #stop(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
    return AbortSignal.any([...signals.filter(signal => signal !== undefined), this.#closing.signal]);
  }
}

interface Work {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
}

async function* takenFrom(
  stream: Socket,
  task: Promise<void>,
  offer: Offer,
  close: () => Promise<void>,
): AsyncGenerator<Uint8Array> {
  try {
    offer.taken();
    for await (const chunk of stream) {
      offer.made();
      yield chunk;
      offer.taken();
    }
    await task;
  } catch (error) {
    offer.taken();
    await task;
    throw error;
  } finally {
    offer.withdraw();
    await close();
  }
}

/** The same bytes; the last of them not before it is known that their digest is this one. */
async function* onlyIf(
  bytes: AsyncIterable<Uint8Array>,
  digest: Promise<string>,
  diffId: string,
): AsyncGenerator<Uint8Array> {
  let last: Uint8Array | undefined;
  for await (const piece of bytes) {
    if (last !== undefined) yield last;
    last = piece;
  }
  const found = await digest;
  if (found !== diffId) {
    throw new FailedPrecondition(
      `the archive cannot be given back: its digest would be ${found} instead of ${diffId}, for the files of the layer were changed; verify the layer, and make it again`,
    );
  }
  if (last !== undefined) yield last;
}

/** @param read by the worker */
function progressOf(feed: Feed, read: number): CopyProgress {
  const doneBytes = feed.isFile ? read : feed.doneBytes();
  return { doneBytes, totalBytes: Math.max(feed.totalBytes ?? 0, doneBytes) };
}

/** Of several that failed the one that the others were stopped for. */
function causeOf(outcomes: readonly PromiseSettledResult<unknown>[]): unknown {
  const reasons = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []));
  return reasons.find(reason => !(reason instanceof Aborted));
}

function treeArgs({ fd, directory, form, below }: OpenTree): TreeArgs {
  return { own: fd, directory, form, below: below?.fd ?? null };
}

function comparisonArgs(comparison: Comparison): ComparisonArgs {
  if (comparison.type === 'delta') return { type: 'delta', tree: treeArgs(comparison.tree) };
  const { before, after } = comparison;
  return { type: 'trees', before: before?.fd ?? null, after: after.fd };
}
