import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBusyboxImage } from '../../scripts/lib/busybox.ts';
import { crashEngine, engineFiles, launchEngine } from '../../scripts/lib/engine.ts';
import { ask } from '../../scripts/lib/http.ts';
import { end, type ProcessId } from '../../scripts/lib/proc.ts';
import { type Result, run } from '../../scripts/lib/process.ts';
import { removeEngine } from '../../scripts/lib/remove-engine.ts';
import { engineBin } from '../../scripts/lib/suite-engines.ts';
import { environment } from './daemon.ts';

/** The Debian suite whose engine all tests use; without it, they use the one that is installed. */
const selectedSuite = () => process.env['VARVE_ENGINE_SUITE'];
/** Of the installed engine its own client: another `docker` of this machine may come first in PATH. */
const installedBin = '/usr/bin';

/** The directory with the programs of the selected engine; undefined for those that are installed. */
export function selectedBin(): string | undefined {
  const suite = selectedSuite();
  return suite === undefined ? undefined : engineBin(suite);
}

/** Registers tests that learn nothing from a second engine: they run on the installed one alone. */
export function onFirstEngine(register: () => void): void {
  if (selectedSuite() === undefined) register();
}

/** Registers tests of what no installed engine can do: Debian 12 has Docker 20.10. */
export function onLaterEngines(register: () => void): void {
  if (selectedSuite() !== undefined) register();
}

/** A container engine for one test: real, private, with the image `busybox` and nothing else. */
export interface TestEngine {
  /** As `docker version` shows it: `20.10.24+dfsg1`. */
  readonly version: string;
  /** The first number of its version, such as 20 or 28, for what engines do differently. */
  readonly major: number;
  /** As in DOCKER_HOST. */
  readonly dockerHost: string;
  readonly socket: string;
  readonly dataRoot: string;
  /** The file that dockerd logs to. */
  readonly log: string;
  /** The pid of dockerd; another one after a restart. */
  readonly pid: number;
  /** In which `docker` is this engine's own client, and talks to it. */
  readonly environment: NodeJS.ProcessEnv;
  /** Runs the docker command against this engine, whatever it answers; at most two minutes. */
  docker(...args: string[]): Promise<Result>;
  /** Ends dockerd as a crash does; its containers live on. */
  kill9(): Promise<void>;
  /**
   * Ends dockerd with SIGTERM unless it is dead, and starts it again on what it has.
   * @param readyMs how long it may take to answer; by default 60 s
   * @returns how long it took, in ms
   */
  restart(readyMs?: number): Promise<number>;
  /** Ends everything and leaves nothing. */
  stop(): Promise<void>;
}

export interface TestEngineOptions {
  /** The engine of another Debian suite: what `scripts/engines path SUITE` prints. */
  readonly binDir?: string;
  /** A containerd to keep images in, by its socket, and the name that a snapshotter has there; from Docker 26 on. */
  readonly imageStore?: { readonly containerd: string; readonly snapshotter: string };
  /** Further arguments of dockerd, such as `--live-restore`. */
  readonly args?: readonly string[];
}

/** Starts a private dockerd; a test that does so calls `stop` whatever happens. */
export async function startEngine(options: TestEngineOptions = {}): Promise<TestEngine> {
  const binDir = options.binDir ?? selectedBin();
  const directory = await mkdtemp(join(tmpdir(), 'varve-engine-'));
  const { socket, dataRoot, log } = engineFiles(directory);
  const dockerHost = `unix://${socket}`;
  const env = {
    ...environment,
    PATH: [binDir ?? installedBin, process.env['PATH']].join(':'),
    LC_ALL: 'C',
    DOCKER_HOST: dockerHost,
    DOCKER_CONFIG: join(directory, 'client'),
  };
  const launch = (readyMs?: number) => launchEngine({ directory, ...options, binDir, readyMs });
  let dockerd: ProcessId;
  let version: string;
  try {
    dockerd = await launch();
    version = (JSON.parse((await ask(socket, 'GET', '/version')).body) as { Version: string }).Version;
    await ensureBusyboxImage(socket);
  } catch (error) {
    await removeEngine(directory);
    throw error;
  }
  return {
    ...{ version, major: Number.parseInt(version, 10), dockerHost, socket, dataRoot, log },
    get pid() {
      return dockerd.pid;
    },
    environment: env,
    docker: (...args) => run('docker', args, { env, timeoutMs: 120_000 }),
    kill9: () => crashEngine(dockerd),
    async restart(readyMs) {
      await end(dockerd, 60_000);
      const began = performance.now();
      dockerd = await launch(readyMs);
      return performance.now() - began;
    },
    stop: () => removeEngine(directory),
  };
}
