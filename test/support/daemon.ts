import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { varveScript } from '../../scripts/lib/paths.ts';
import { type Result, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import { unmountBelow } from './unmount-below.ts';

/** The environment without what concerns another daemon, or the tests. */
export const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^VARVE_|^UV_THREADPOOL_SIZE$/.test(name)),
);
let count = 0;

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** A `varve daemon` for one test: the real program as it is shipped, with everything it has in one temporary directory. */
export interface TestDaemon {
  /** The name under which engines of this machine find it. */
  readonly driver: string;
  readonly directory: string;
  readonly root: string;
  /** The plugin socket of `driver`. */
  readonly socket: string;
  readonly adminSocket: string;
  readonly pid: number;
  /** All that it has written to standard error. */
  log(): string;
  /** Runs the `varve` command against it. */
  varve(...args: string[]): Promise<Result>;
  /** One request to the plugin socket as dockerd sends it; `body` as text is sent as it is. */
  plugin(method: string, body?: unknown): Promise<Answer>;
  /** What happens at a fault point from now on: `{ 'publish.mount:before': 'kill' }`. */
  faults(actions: Readonly<Record<string, string>>): void;
  /** The fault points that were passed so far. */
  hits(): ReadonlySet<string>;
  /** How often each plugin call came so far: `Mount`, `Activate` and so on. */
  calls(): Readonly<Record<string, number>>;
  /** Starts it again on what it has, after `stop`, `kill9` or a fault. */
  start(options?: StartOptions): Promise<void>;
  /** Waits until it has ended by itself. */
  ended(): Promise<{ readonly code: number | null; readonly signal: string | null }>;
  /** SIGTERM, and waits. */
  stop(): Promise<void>;
  kill9(): Promise<void>;
  /** Ends it and leaves nothing. */
  dispose(): Promise<void>;
}

export interface StartOptions {
  /** Sockets that are passed as systemd does it (sd_listen_fds(3)): file descriptors by name. */
  readonly passed?: Readonly<Record<string, number>>;
  /** What the kernel calls this boot (random(4)), as after another one; its mounts are then its own. */
  readonly bootId?: string;
}

export interface TestDaemonOptions {
  /** Merged into the configuration; `drivers` and `pools` by entry. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Made at once, or by the caller's own `start`. */
  readonly start?: boolean;
  /** By default true; without them it is as fast as it is for users. */
  readonly faultPoints?: boolean;
  /** Whether the driver under test, and not `varve`, is a storage driver too, with the layer store `docker`. */
  readonly layers?: boolean;
}

/** A daemon with a driver name of its own, so that it does not meet another one of this machine. */
export async function startDaemon({
  config = {},
  env = {},
  start = true,
  faultPoints = true,
  layers = false,
}: TestDaemonOptions = {}): Promise<TestDaemon> {
  const directory = await mkdtemp(join(tmpdir(), 'varve-daemon-'));
  const driver = `vt${process.pid}-${++count}`;
  const root = join(directory, 'root');
  const adminSocket = join(directory, 'run/varve.sock');
  const socket = `/run/docker/plugins/${driver}.sock`;
  const configFile = join(directory, 'config.yaml');
  const faultFile = join(directory, 'faults');
  const logFile = join(directory, 'log');
  const { drivers = {}, ...rest } = config as { drivers?: Record<string, object> };
  const defaults = { root, run: join(directory, 'run'), engine: 'none', intervals: { reconcileSeconds: 1 } };
  const [ofVarve, ofDriver] = layers ? [{ layerStore: 'default' }, { layerStore: 'docker' }] : [{}, {}];
  const ownDrivers = {
    varve: { socket: join(directory, 'varve.sock'), ...ofVarve },
    [driver]: ofDriver,
    ...drivers,
  };
  writeFileSync(configFile, stringify({ ...defaults, ...rest, drivers: ownDrivers }));
  writeFileSync(faultFile, '');
  writeFileSync(logFile, '');
  let child: ChildProcess | undefined;

  const hits = () =>
    existsSync(`${faultFile}.hits`) ? readFileSync(`${faultFile}.hits`, 'utf8').trim().split('\n') : [];

  const daemon: TestDaemon = {
    ...{ driver, directory, root, socket, adminSocket },
    get pid() {
      return child?.pid ?? -1;
    },
    log: () => readFileSync(logFile, 'utf8'),
    varve: (...args) =>
      run(process.execPath, [varveScript, ...args], {
        env: { ...environment, ...env, VARVE_SOCKET: adminSocket, VARVE_CONFIG: configFile },
        timeoutMs: 60_000,
      }),
    plugin: (method, body) => post(socket, method, body),
    faults: actions => {
      writeFileSync(
        faultFile,
        Object.entries(actions)
          .map(entry => `${entry.join(' ')}\n`)
          .join(''),
      );
    },
    hits: () => new Set(hits()),
    calls: () => countCalls(hits()),
    async start({ passed = {}, bootId } = {}) {
      const faults = faultPoints ? { VARVE_FAULTS: faultFile } : {};
      const words = [process.execPath, varveScript, 'daemon', '--config', configFile];
      const command = ['sh', '-c', activation(passed), 'sh', ...words];
      const [first = '', ...rest] = bootId === undefined ? command : booted(directory, bootId, command);
      const started = spawn(first, rest, {
        env: { ...environment, ...env, ...faults },
        stdio: ['ignore', 'ignore', 'pipe', ...Object.values(passed)],
      });
      child = started;
      started.stderr?.on('data', (text: Buffer) => appendFileSync(logFile, text));
      await until(`the daemon to answer; its log:\n${daemon.log()}`, 20_000, async () => {
        if (started.exitCode !== null || started.signalCode !== null)
          throw new Error(`the daemon ended:\n${daemon.log()}`);
        return isUp(adminSocket);
      });
    },
    async ended() {
      if (child !== undefined && child.exitCode === null && child.signalCode === null)
        await once(child, 'exit');
      return { code: child?.exitCode ?? null, signal: child?.signalCode ?? null };
    },
    async stop() {
      child?.kill('SIGTERM');
      await daemon.ended();
    },
    async kill9() {
      child?.kill('SIGKILL');
      await daemon.ended();
    },
    async dispose() {
      await daemon.kill9();
      for (const path of [socket, `${socket.slice(0, -1)}~`]) await rm(path, { force: true });
      await unmountBelow(directory);
      await rm(directory, { recursive: true, force: true });
    },
  };
  if (start) {
    try {
      await daemon.start();
    } catch (error) {
      await daemon.dispose();
      throw error;
    }
  }
  return daemon;
}

/** A shell script that runs its arguments in its place, with the variables that systemd sets for passed sockets. */
function activation(passed: Readonly<Record<string, number>>): string {
  const names = Object.keys(passed);
  if (names.length === 0) return 'exec "$@"';
  return `LISTEN_PID=$$ LISTEN_FDS=${names.length} LISTEN_FDNAMES=${names.join(':')} exec "$@"`;
}

/** The words of a command that sees another boot id; its process is the one that is started. */
function booted(directory: string, bootId: string, command: readonly string[]): readonly string[] {
  const file = join(directory, 'boot-id');
  writeFileSync(file, `${bootId}\n`);
  const script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"';
  return ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', script, file, ...command];
}

/** Sends one request to a plugin socket, with the headers that dockerd sends and no Content-Type. */
export function post(socketPath: string, method: string, body: unknown = ''): Promise<Answer> {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  const headers = {
    Accept: 'application/vnd.docker.plugins.v1.2+json',
    'User-Agent': 'Go-http-client/1.1',
    'Content-Length': Buffer.byteLength(text),
  };
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, path: `/${method}`, method: 'POST', headers, timeout: 30_000 },
      response => {
        let answer = '';
        response.on('data', (part: Buffer) => {
          answer += part.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(answer) }));
        response.on('error', reject);
      },
    );
    call.on('timeout', () => call.destroy(new Error(`${method} was not answered within 30 s`)));
    call.on('error', reject);
    call.end(text);
  });
}

/** Counts the points `docker.VolumeDriver.METHOD` and `docker.Plugin.Activate`. */
function countCalls(points: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const point of points) {
    const method = /^docker\.\w+\.(\w+)$/.exec(point)?.[1];
    if (method !== undefined) counts[method] = (counts[method] ?? 0) + 1;
  }
  return counts;
}

/** Whether a daemon answers on this admin socket. */
export function isUp(socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    const call = request({ socketPath, path: '/v1/status' }, response => {
      response.resume();
      response.on('end', () => resolve(response.statusCode === 200));
    });
    call.on('error', () => resolve(false));
    call.end();
  });
}
