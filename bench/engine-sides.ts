/** Engines to measure: on varve, and as they come. */
import { readFileSync } from 'node:fs';
import { ask } from '../scripts/lib/http.ts';
import { TestContainerd } from '../test/support/containerd.ts';
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

/** Three of one version: on varve, which leaves the disk for later or waits for it, and as it comes. */
export interface Sides {
  readonly ours: BenchEngine;
  readonly durable: BenchEngine;
  readonly theirs: BenchEngine;
  /** Resident memory of the varve that waits for the disk, in MiB. */
  memory(): number;
  close(): Promise<void>;
}

/** @param binDir of an engine from 26 on, which keeps its images in containerd */
export async function openSides(binDir: string): Promise<Sides> {
  const open: { stop(): Promise<void> }[] = [];
  const opened = async <T extends { stop(): Promise<void> }>(part: Promise<T>): Promise<T> => {
    const it = await part;
    open.unshift(it);
    return it;
  };
  const close = async () => {
    for (const part of open) await part.stop();
  };
  const onVarve = async (sync: string) => {
    const host = await opened(SnapshotterHost.start({ shipped: true, binDir, snapshotter: { sync } }));
    return { host, engine: new BenchEngine(await opened(host.startEngine()), `varve, sync: ${sync}`) };
  };
  try {
    const later = await onVarve('later');
    const durable = await onVarve('apply');
    const { socket: containerd } = await opened(TestContainerd.start({ binDir }));
    const imageStore = { containerd, snapshotter: 'overlayfs' };
    const theirs = new BenchEngine(await opened(startEngine({ binDir, imageStore })), 'overlayfs');
    const memory = () => residentMebibytes(durable.host.daemon.pid);
    return { ours: later.engine, durable: durable.engine, theirs, memory, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** proc(5), `VmRSS`. */
function residentMebibytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
