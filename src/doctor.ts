/** Looks at this host as the daemon would, with or without a daemon, and says what works and what does not. */
import { readlinkSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { findAdminSocket } from './config/admin-socket.ts';
import type { Config } from './config/schema.ts';
import type { DoctorFinding, StatusView } from './core/volumes/view.ts';
import { messageOf, NotFound } from './errors/errors.ts';
import { DockerEngine } from './host/linux/engine.ts';
import { LinuxMounter } from './host/linux/mounter.ts';
import { peerPid } from './host/linux/peer.ts';
import { type PathFacts, probeHost, probePath } from './host/linux/probe.ts';

/** What of the running daemon matters here. */
type Running = Pick<StatusView, 'version' | 'pid' | 'managed' | 'warnings'>;

type Check = (config: Config, daemon: Running | Error) => Promise<DoctorFinding[]> | DoctorFinding[];

/** All findings, in the order in which a person would look. */
export async function examine(config: Config): Promise<DoctorFinding[]> {
  const checks: Check[] = [
    ...[checkHost, checkPaths, checkDaemon, checkPlugins, checkSnapshotters],
    ...[checkEngine, checkPropagation, checkLeftovers],
  ];
  const daemon = (await ask(findAdminSocket(config), 'GET', '/v1/status').catch((error: Error) => error)) as
    | Running
    | Error;
  const findings: DoctorFinding[] = [];
  for (const check of checks) findings.push(...(await check(config, daemon)));
  return findings;
}

function isManaged(daemon: Running | Error): boolean {
  return !(daemon instanceof Error) && daemon.managed;
}

function checkHost(): DoctorFinding[] {
  const { kernel, kernelIsEnough, uid, canMount, tablesReadable, seesAllProcesses } = probeHost();
  return [
    kernelIsEnough
      ? ok('kernel', `Linux ${kernel}`)
      : failure('kernel', `Linux ${kernel} is too old`, 'use Linux 5.8 or later'),
    canMount
      ? ok('privileges', 'this process can mount')
      : failure('privileges', `user ${uid} cannot mount`, 'run varve as root, with CAP_SYS_ADMIN'),
    tablesReadable && seesAllProcesses
      ? ok('mount tables', 'the mounts of all processes can be read')
      : warning(
          'mount tables',
          'not every process of the host is visible: a volume in use may be taken for an unused one',
          'run varve in the pid namespace of the host (docker run --pid=host)',
        ),
  ];
}

async function checkPaths(config: Config): Promise<DoctorFinding[]> {
  const places = [
    ['root', config.root] as const,
    ...Object.entries(config.pools).map(([name, { path }]) => [`pool ${name}`, path] as const),
    ...Object.entries(config.layerStores).map(([name, { path }]) => [`layer store ${name}`, path] as const),
  ];
  return (await Promise.all(places.map(([name, path]) => checkPath(name, path)))).flat();
}

async function checkPath(name: string, path: string): Promise<DoctorFinding[]> {
  try {
    const facts = await probeNearest(path);
    return [
      ok(name, `${path} is on ${facts.fsType}, ${abilities(facts)}`),
      ...(facts.immutable
        ? []
        : [
            warning(
              name,
              `${facts.fsType} cannot make directories immutable, so that a container which lost its mount could write beneath it`,
              'keep the root on ext4, xfs or btrfs',
            ),
          ]),
    ];
  } catch (error) {
    return [failure(name, messageOf(error), `make ${path} available and writable`)];
  }
}

/** The facts of a path, or of the directory in which it would be made. */
async function probeNearest(path: string): Promise<PathFacts> {
  try {
    return await probePath(path);
  } catch (error) {
    if (error instanceof NotFound && path !== '/') return probeNearest(dirname(path));
    throw error;
  }
}

function abilities({ reflink, userXattr }: PathFacts): string {
  const copies = reflink ? 'copies share their blocks (reflink)' : 'no reflink';
  return `${copies}, ${userXattr ? 'user xattrs' : 'no user xattrs'}`;
}

function checkDaemon(config: Config, daemon: Running | Error): DoctorFinding[] {
  if (daemon instanceof Error) {
    const message = `no daemon answers on ${findAdminSocket(config)}: ${messageOf(daemon)}`;
    return [failure('daemon', message, 'start it: varve daemon')];
  }
  const { version, pid, managed, warnings } = daemon;
  return [
    ok('daemon', `varve ${version} runs as process ${pid}${managed ? ', a managed plugin' : ''}`),
    ...warnings.map(text => warning('daemon', text, null)),
  ];
}

async function checkPlugins({ drivers }: Config, daemon: Running | Error): Promise<DoctorFinding[]> {
  if (isManaged(daemon)) {
    return [ok('drivers', 'the engine reaches them as those of its managed plugin: docker plugin ls')];
  }
  return Promise.all(
    Object.entries(drivers).map(async ([name, { socket }]) => {
      try {
        await ask(socket, 'POST', '/VolumeDriver.Capabilities');
        return ok(`driver ${name}`, `engines reach it on ${socket}`);
      } catch (error) {
        const fix = 'start the daemon; a socket that nobody answers makes every `docker volume ls` wait 15 s';
        return failure(`driver ${name}`, `${socket} does not answer: ${messageOf(error)}`, fix);
      }
    }),
  );
}

async function checkSnapshotters(
  { snapshotters }: Config,
  daemon: Running | Error,
): Promise<DoctorFinding[]> {
  if (isManaged(daemon)) return [];
  return Promise.all(
    Object.entries(snapshotters).map(async ([name, { socket }]) =>
      (await listenerOf(socket)) === undefined
        ? failure(`snapshotter ${name}`, `nobody answers on ${socket}`, 'start the daemon: varve daemon')
        : ok(`snapshotter ${name}`, `containerd reaches it on ${socket}`),
    ),
  );
}

async function checkEngine({ engine }: Config): Promise<DoctorFinding[]> {
  if (engine === 'none') return [ok('engine', 'none is configured; labels and containers are not shown')];
  try {
    return [ok('engine', `${await new DockerEngine(engine).version()} at ${engine}`)];
  } catch (error) {
    const fix = 'start it, or set `engine`; varve works without it, but shows no labels and containers';
    return [warning('engine', messageOf(error), fix)];
  }
}

/** Private mounts stay in our mount namespace: an engine in another one would give containers the bare directory. */
async function checkPropagation(
  { mountPoints, engine }: Config,
  daemon: Running | Error,
): Promise<DoctorFinding[]> {
  // The engine itself shares the mount points of a managed plugin.
  if (isManaged(daemon)) return [];
  const facts = await probeNearest(mountPoints).catch(() => undefined);
  if (facts === undefined) return [];
  if (facts.propagation === 'shared') return [ok('propagation', `mounts below ${mountPoints} are shared`)];
  const pid = engine.startsWith('unix://') ? await listenerOf(engine.slice('unix://'.length)) : undefined;
  const namespace = pid === undefined ? undefined : mountNamespace(pid);
  if (namespace === undefined || namespace === mountNamespace('self')) {
    const reason =
      namespace === undefined ? 'no engine is known to be elsewhere' : 'the engine is in our mount namespace';
    return [ok('propagation', `mounts below ${mountPoints} are private, and ${reason}`)];
  }
  const message = `mounts below ${mountPoints} are private, and the engine (process ${pid}) is in another mount namespace`;
  return [warning('propagation', message, `mount --make-rshared ${facts.mountPoint}`)];
}

/**
 * The process that listens on a unix socket: SO_PEERCRED of unix(7). With socket activation it is systemd, whose
 * mount namespace the engine has as well. Undefined when nobody we can see listens.
 */
function listenerOf(socketPath: string): Promise<number | undefined> {
  return new Promise(resolve => {
    const socket = connect(socketPath);
    socket.on('connect', () => {
      resolve(peerPid(socket));
      socket.destroy();
    });
    socket.on('error', () => resolve(undefined));
  });
}

/** Mounts that a daemon left behind; with one running, they are in use or it takes care of them. */
async function checkLeftovers({ mountPoints }: Config, daemon: Running | Error): Promise<DoctorFinding[]> {
  const mounts = (await new LinuxMounter().table()).filter(({ mountPoint }) =>
    mountPoint.startsWith(`${mountPoints}/`),
  );
  if (!(daemon instanceof Error) || mounts.length === 0)
    return [ok('leftovers', 'no mounts without a daemon')];
  const message = `${mounts.length} volumes are mounted below ${mountPoints} and no daemon runs`;
  return [
    warning('leftovers', message, 'start the daemon: it takes them over, and unmounts what is not used'),
  ];
}

/** One request on a unix socket, with 5 s for the answer. @throws Error when it is not answered with success */
function ask(socketPath: string, method: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, timeout: 5000 }, response => {
      let text = '';
      response.on('data', (part: Buffer) => {
        text += part.toString();
      });
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`status ${response.statusCode}`));
      });
    });
    call.on('timeout', () => call.destroy(new Error('no answer within 5 s')));
    call.on('error', reject);
    call.end();
  });
}

function ok(check: string, message: string): DoctorFinding {
  return { check, verdict: 'ok', message, fix: null };
}

function warning(check: string, message: string, fix: string | null): DoctorFinding {
  return { check, verdict: 'warning', message, fix };
}

function failure(check: string, message: string, fix: string): DoctorFinding {
  return { check, verdict: 'failure', message, fix };
}

/** Undefined when the process has gone, or is not ours to look at. */
function mountNamespace(process: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${process}/ns/mnt`);
  } catch {
    return undefined;
  }
}
