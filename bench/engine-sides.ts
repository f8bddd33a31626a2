/** Engines to measure: on varve, and as they come. */
import { readFileSync } from 'node:fs';
import { ask } from '../scripts/lib/http.ts';
import { TestContainerd } from '../test/support/containerd.ts';
import { startDaemon } from '../test/support/daemon.ts';
import { startEngine, type TestEngine } from '../test/support/engine.ts';
import { SnapshotterHost } from '../test/support/snapshotter-host.ts';

const minutes = 60_000;

/** A dockerd, and what it stores on. */
export class BenchEngine {
  /** Such as `overlayfs, Docker 28.5.2`. */
  readonly name: string;
  readonly #engine: TestEngine;

  constructor(engine: TestEngine, storage: string) {
    this.#engine = engine;
    this.name = `${storage}, Docker ${engine.version.split('+')[0]}`;
  }

  /** Runs a docker command that has to succeed. */
  async docker(...words: readonly string[]): Promise<void> {
    const { exitCode, stderr } = await this.#engine.docker(...words);
    if (exitCode !== 0) throw new Error(`docker ${words.join(' ')}: ${stderr}`);
  }

  /** One call of its API that has to succeed. */
  async api(method: string, path: string): Promise<void> {
    const { status, body } = await ask(this.#engine.socket, method, path, { timeoutMs: 10 * minutes });
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${body}`);
  }
}

/** Engines of one version: on varve, and as they come. */
export interface Sides {
  /** Leaves the disk for later; undefined where varve always waits for it. */
  readonly later: BenchEngine | undefined;
  /** Waits for the disk. */
  readonly durable: BenchEngine;
  readonly theirs: BenchEngine;
  /** The most memory that the varve which waits for the disk had, in MiB. */
  memory(): number;
  close(): Promise<void>;
}

/** Those of an engine; by default the installed one. */
export interface Programs {
  readonly binDir?: string;
}

/** By the snapshotter: engines from 26 on. */
export function openImageStores(programs: Programs): Promise<Sides> {
  return opening(async opened => {
    const onVarve = async (sync: string) => {
      const host = await opened(
        SnapshotterHost.start({ ...programs, faultPoints: false, snapshotter: { sync } }),
      );
      return { host, engine: new BenchEngine(await opened(host.startEngine()), `varve, sync: ${sync}`) };
    };
    const { engine: later } = await onVarve('later');
    const { engine: durable, host } = await onVarve('apply');
    const { socket: containerd } = await opened(TestContainerd.start(programs));
    const imageStore = { containerd, snapshotter: 'overlayfs' };
    const theirs = new BenchEngine(await opened(startEngine({ ...programs, imageStore })), 'overlayfs');
    return { later, durable, theirs, memory: () => mostMebibytes(host.daemon.pid) };
  });
}

/** By the graph driver: engines up to 26. */
export function openGraphs(programs: Programs): Promise<Sides> {
  return opening(async opened => {
    const daemon = await startDaemon({ faultPoints: false, layers: true });
    await opened(Promise.resolve({ stop: () => daemon.dispose() }));
    const args = ['--experimental', '--storage-driver', daemon.driver];
    const durable = new BenchEngine(await opened(startEngine({ ...programs, args })), 'varve');
    const theirs = await opened(startEngine({ ...programs, args: ['--storage-driver', 'overlay2'] }));
    const memory = () => mostMebibytes(daemon.pid);
    return { later: undefined, durable, theirs: new BenchEngine(theirs, 'overlay2'), memory };
  });
}

interface Part {
  stop(): Promise<void>;
}

/** Ends the parts, the last one first, when the sides are closed or cannot be opened. */
async function opening(
  open: (opened: <T extends Part>(part: Promise<T>) => Promise<T>) => Promise<Omit<Sides, 'close'>>,
): Promise<Sides> {
  const parts: Part[] = [];
  const close = async () => {
    for (const part of parts) await part.stop();
  };
  try {
    const sides = await open(async part => {
      const it = await part;
      parts.unshift(it);
      return it;
    });
    return { ...sides, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** proc(5), `VmHWM`. */
function mostMebibytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
