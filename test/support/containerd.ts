import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unmountBelow } from '../../scripts/lib/mounts.ts';
import { end, identify, type ProcessId } from '../../scripts/lib/proc.ts';
import { must, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';

const minutes = 60_000;

/** Debian's containerd with a root of its own, and the snapshotter `overlayfs`. It runs no containers. */
export class TestContainerd {
  readonly #directory: string;
  readonly #process: ProcessId;

  private constructor(directory: string, process: ProcessId) {
    this.#directory = directory;
    this.#process = process;
  }

  static async start(): Promise<TestContainerd> {
    const directory = await mkdtemp(join(tmpdir(), 'varve-ctrd-'));
    await writeFile(join(directory, 'config.toml'), configuration(directory));
    const log = openSync(join(directory, 'log'), 'a');
    const child = spawn('containerd', ['--config', join(directory, 'config.toml')], {
      cwd: directory,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    child.unref();
    const process = child.pid === undefined ? undefined : identify(child.pid);
    if (process === undefined) throw new Error('containerd ended at once');
    const containerd = new TestContainerd(directory, process);
    try {
      const answers = () => run('ctr', containerd.#words(['version'])).then(({ exitCode }) => exitCode === 0);
      await until('containerd to answer', minutes, answers);
      return containerd;
    } catch (error) {
      await containerd.stop();
      throw error;
    }
  }

  /** The directory of its content store, and of the snapshots. */
  get root(): string {
    return join(this.#directory, 'root');
  }

  /** Runs a `ctr` command that has to succeed, in namespace `default` unless it says otherwise. @returns what it prints, without the last line break */
  async ctr(...words: readonly string[]): Promise<string> {
    const { stdout } = await must('ctr', this.#words(words), { timeoutMs: 5 * minutes });
    return stdout.trimEnd();
  }

  /** Shows an image, read-only, for the time of `look`. */
  async mounting<T>(image: string, look: (path: string) => T | Promise<T>): Promise<T> {
    const point = join(this.#directory, 'image');
    await mkdir(point, { recursive: true });
    await this.ctr('images', 'mount', image, point);
    try {
      return await look(point);
    } finally {
      await this.ctr('images', 'unmount', '--rm', point);
    }
  }

  /** Ends it and leaves nothing. */
  async stop(): Promise<void> {
    await end(this.#process, 20_000);
    await unmountBelow(this.#directory);
    await rm(this.#directory, { recursive: true, force: true });
  }

  #words(words: readonly string[]): readonly string[] {
    return ['--address', join(this.#directory, 'socket'), ...words];
  }
}

/** Everything that containerd would otherwise make elsewhere is in the directory, too. */
function configuration(directory: string): string {
  const path = (name: string) => JSON.stringify(join(directory, name));
  return [
    'version = 2',
    `root = ${path('root')}`,
    `state = ${path('state')}`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]',
    `[grpc]\n  address = ${path('socket')}`,
    `[ttrpc]\n  address = ${path('socket.ttrpc')}`,
    `[plugins."io.containerd.internal.v1.opt"]\n  path = ${path('opt')}`,
    '',
  ].join('\n');
}
