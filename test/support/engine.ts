import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBusyboxImage } from '../../scripts/lib/busybox.ts';
import { crashEngine, engineFiles, launchEngine } from '../../scripts/lib/engine.ts';
import { end, type ProcessId } from '../../scripts/lib/proc.ts';
import { type Result, run } from '../../scripts/lib/process.ts';
import { removeEngine } from '../../scripts/lib/remove-engine.ts';

/** A container engine for one test: real, private, with the image `busybox` and nothing else. */
export interface TestEngine {
  /** As in DOCKER_HOST. */
  readonly dockerHost: string;
  readonly socket: string;
  readonly dataRoot: string;
  /** The file that dockerd logs to. */
  readonly log: string;
  /** The pid of dockerd; another one after a restart. */
  readonly pid: number;
  /** Runs the docker command against this engine, whatever it answers; at most two minutes. */
  docker(...args: string[]): Promise<Result>;
  /** Ends dockerd as a crash does; its containers live on. */
  kill9(): Promise<void>;
  /** Ends dockerd with SIGTERM unless it is dead, and starts it again on what it has. @returns the time, in ms */
  restart(): Promise<number>;
  /** Ends everything and leaves nothing. */
  stop(): Promise<void>;
}

export interface TestEngineOptions {
  /** The engine of another Debian suite: what `scripts/engines path SUITE` prints. */
  readonly binDir?: string;
  /** Further arguments of dockerd, such as `--live-restore`. */
  readonly args?: readonly string[];
}

/** Starts a private dockerd; a test that does so calls `stop` whatever happens. */
export async function startEngine(options: TestEngineOptions = {}): Promise<TestEngine> {
  const directory = await mkdtemp(join(tmpdir(), 'varve-engine-'));
  const { socket, dataRoot, log } = engineFiles(directory);
  const dockerHost = `unix://${socket}`;
  const env = {
    ...process.env,
    LC_ALL: 'C',
    DOCKER_HOST: dockerHost,
    DOCKER_CONFIG: join(directory, 'client'),
  };
  const launch = () => launchEngine({ directory, ...options });
  let dockerd: ProcessId;
  try {
    dockerd = await launch();
    await ensureBusyboxImage(socket);
  } catch (error) {
    await removeEngine(directory);
    throw error;
  }
  return {
    ...{ dockerHost, socket, dataRoot, log },
    get pid() {
      return dockerd.pid;
    },
    docker: (...args) => run('docker', args, { env, timeoutMs: 120_000 }),
    kill9: () => crashEngine(dockerd),
    async restart() {
      await end(dockerd, 60_000);
      const began = performance.now();
      dockerd = await launch();
      return performance.now() - began;
    },
    stop: () => removeEngine(directory),
  };
}
