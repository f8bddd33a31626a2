/**
 * Long synchronous work in worker threads: {@link WorkerPool} on the main thread, {@link serveTasks} in the script
 * that its workers run.
 */
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { Aborted, type ErrorCode, errorClasses, Internal, VarveError } from '../errors/errors.ts';

/** What a task is given beside its arguments. */
export interface TaskContext {
  progress(value: unknown): void;
  /** To be called often: nothing else stops a synchronous task. @throws Aborted */
  throwIfAborted(): void;
}

export type Task = (args: never, context: TaskContext) => unknown;

export interface TaskOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((value: unknown) => void) | undefined;
}

interface Request {
  readonly task: string;
  readonly args: unknown;
  /** Shared with the worker: its first element becomes 1 when the task is to stop. */
  readonly stop: Int32Array;
}

type Report =
  | { readonly type: 'progress'; readonly value: unknown }
  | { readonly type: 'done'; readonly value: unknown }
  | { readonly type: 'failed'; readonly error: unknown; readonly code: ErrorCode | undefined };

interface Job extends Request {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: TaskOptions['onProgress'];
}

interface Idle {
  readonly worker: Worker;
  readonly timer: NodeJS.Timeout;
}

/**
 * Runs one task in each of at most `size` workers; the others wait in order. A worker starts when it is needed and
 * ends after `idleMs` without work; an idle one does not keep the process alive.
 */
export class WorkerPool {
  readonly #script: URL;
  readonly #options: { readonly size: number; readonly idleMs: number };
  readonly #waiting: Job[] = [];
  readonly #running = new Map<Worker, Job>();
  readonly #idle: Idle[] = [];
  readonly #all = new Set<Promise<unknown>>();
  #closed = false;

  constructor(script: URL, options: { readonly size: number; readonly idleMs: number }) {
    this.#script = script;
    this.#options = options;
  }

  /**
   * Runs a task by its name. Arguments and result are cloned, but for shared memory.
   * @throws what the task throws, of the same class; Aborted when the signal fires or the pool is closed; Internal
   * when the worker dies
   */
  async run<T>(task: string, args: unknown, options: TaskOptions = {}): Promise<T> {
    const { signal, onProgress } = options;
    if (this.#closed || signal?.aborted) throw cancelled(task);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const job = { task, args, stop: new Int32Array(new SharedArrayBuffer(4)), resolve, reject, onProgress };
    const abort = () => this.#abort(job);
    signal?.addEventListener('abort', abort, { once: true });
    this.#waiting.push(job);
    this.#all.add(promise);
    this.#startNext();
    try {
      return (await promise) as T;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#all.delete(promise);
    }
  }

  /** Stops what runs and ends all workers. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of [...this.#waiting, ...this.#running.values()]) this.#abort(job);
    await Promise.allSettled(this.#all);
    const workers = this.#idle.splice(0);
    for (const { timer } of workers) clearTimeout(timer);
    await Promise.all(workers.map(({ worker }) => worker.terminate()));
  }

  #abort(job: Job): void {
    Atomics.store(job.stop, 0, 1);
    const index = this.#waiting.indexOf(job);
    if (index === -1) return;
    this.#waiting.splice(index, 1);
    job.reject(cancelled(job.task));
  }

  #startNext(): void {
    if (this.#waiting.length === 0 || this.#running.size >= this.#options.size) return;
    const job = this.#waiting.shift();
    if (job === undefined) return;
    const { task, args, stop } = job;
    const worker = this.#takeWorker();
    this.#running.set(worker, job);
    worker.ref();
    worker.postMessage({ task, args, stop } satisfies Request);
  }

  #takeWorker(): Worker {
    const idle = this.#idle.pop();
    if (idle === undefined) return this.#startWorker();
    clearTimeout(idle.timer);
    return idle.worker;
  }

  #startWorker(): Worker {
    // Descriptors are opened and closed by system calls of our own and shared with other threads: Node would warn of
    // each, and close them when the thread ends.
    const worker = new Worker(this.#script, { trackUnmanagedFds: false });
    worker.on('message', (report: Report) => this.#receive(worker, report));
    worker.on('error', error => this.#lose(worker, error));
    worker.on('exit', code => this.#lose(worker, new Error(`exit code ${code}`)));
    return worker;
  }

  #receive(worker: Worker, report: Report): void {
    const job = this.#running.get(worker);
    if (job === undefined) return;
    if (report.type === 'progress') {
      job.onProgress?.(report.value);
      return;
    }
    this.#running.delete(worker);
    this.#rest(worker);
    if (report.type === 'done') job.resolve(report.value);
    else job.reject(revived(report));
    this.#startNext();
  }

  #rest(worker: Worker): void {
    worker.unref();
    const timer = setTimeout(() => {
      this.#forget(worker);
      void worker.terminate();
    }, this.#options.idleMs);
    timer.unref();
    this.#idle.push({ worker, timer });
  }

  #forget(worker: Worker): void {
    const index = this.#idle.findIndex(idle => idle.worker === worker);
    if (index === -1) return;
    clearTimeout(this.#idle[index]?.timer);
    this.#idle.splice(index, 1);
  }

  /** A worker that ended by itself: its task fails, and another worker does the next. */
  #lose(worker: Worker, cause: unknown): void {
    this.#forget(worker);
    const job = this.#running.get(worker);
    this.#running.delete(worker);
    job?.reject(new Internal(`the worker thread for "${job.task}" died; try again`, { cause }));
    this.#startNext();
  }
}

/** How a task ends that was told to stop. */
export function cancelled(task: string): Aborted {
  return new Aborted(`stopped "${task}": it was cancelled`);
}

/** Serves the tasks of a pool in this worker thread, one after the other. */
export function serveTasks(tasks: Readonly<Record<string, Task>>): void {
  const port = parentPort;
  if (isMainThread || port === null) throw new Internal('tasks are served in a worker thread only');
  const send = (report: Report) => port.postMessage(report);
  port.on('message', ({ task, args, stop }: Request) => {
    const context: TaskContext = {
      progress: value => send({ type: 'progress', value }),
      throwIfAborted: () => {
        if (Atomics.load(stop, 0) !== 0) throw cancelled(task);
      },
    };
    // A result that cannot be cloned is a failure as well.
    void perform(tasks[task], args, context)
      .then(send)
      .catch(error => send(failure(error)));
  });
}

async function perform(task: Task | undefined, args: unknown, context: TaskContext): Promise<Report> {
  if (task === undefined)
    throw new Internal('this worker thread does not know the task; the build is broken');
  return { type: 'done', value: await task(args as never, context) };
}

/** A clone keeps message, stack and cause, but not the class. */
function failure(error: unknown): Report {
  return { type: 'failed', error, code: error instanceof VarveError ? error.code : undefined };
}

function revived({ error, code }: Extract<Report, { type: 'failed' }>): unknown {
  if (code === undefined || !(error instanceof Error)) return error;
  const ours = new errorClasses[code](error.message, { cause: error.cause });
  if (error.stack !== undefined) ours.stack = error.stack;
  return ours;
}
