import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import type { EngineProgram } from '../../core/engine-setup/host.ts';
import { Internal, NotFound } from '../../errors/errors.ts';
import { peerPid } from './peer.ts';
import { run } from './run.ts';

const usualPlaces = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/**
 * Finds the program that answers on a socket, else the one that is installed.
 * @param named a path, which is taken instead @throws NotFound, Internal
 */
export async function findEngineProgram(
  name: 'containerd' | 'dockerd',
  socket: string,
  named?: string,
): Promise<EngineProgram> {
  const running = await processOn(socket, name);
  const path = named ?? running?.path ?? installed(name);
  if (path === undefined) {
    throw new NotFound(`${name} is not installed here; install it, or name it with --program`);
  }
  if (!existsSync(path)) throw new NotFound(`there is no program ${path}; correct --program`);
  const { stdout } = await run(path, ['--version'], { timeout: 10_000 });
  const [version, major, minor] = /\b(\d+)\.(\d+)\.\d[^\s,]*/.exec(stdout) ?? [];
  if (version === undefined)
    throw new Internal(`${path} --version says no version, but ${JSON.stringify(stdout)}`);
  const isRunning = running !== undefined && (named === undefined || running.path === path);
  const commandLine = isRunning ? running.commandLine : [];
  return { path, version, major: Number(major), minor: Number(minor), commandLine };
}

function installed(name: string): string | undefined {
  const places = [...(process.env['PATH'] ?? '').split(':').filter(Boolean), ...usualPlaces];
  return places.map(place => join(place, name)).find(path => existsSync(path));
}

interface Running {
  readonly path: string;
  readonly commandLine: readonly string[];
}

/** The process that listens on a socket, if it runs this program: systemd may hold the socket for it. */
async function processOn(socket: string, name: string): Promise<Running | undefined> {
  const pid = await listener(socket);
  if (pid === undefined || pid <= 1) return undefined;
  try {
    const path = readlinkSync(`/proc/${pid}/exe`);
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
    return basename(path) === name ? { path, commandLine } : undefined;
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

/** Of a socket that was connected to, the peer is the process that listens (unix(7), SO_PEERCRED). */
function listener(socket: string): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const connection = connect(socket);
  connection.on('connect', () => resolve(peerPid(connection))).on('error', () => resolve(undefined));
  return promise.finally(() => connection.destroy());
}
