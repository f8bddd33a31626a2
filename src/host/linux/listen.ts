import type { Stats } from 'node:fs';
import { chmod, lstat, mkdir, rename, rm, unlink } from 'node:fs/promises';
import { connect, type ListenOptions, Server } from 'node:net';
import { dirname } from 'node:path';
import { AlreadyExists, FailedPrecondition, InvalidArgument } from '../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';

type Close = () => Promise<void>;

/** sun_path of unix(7), without the NUL. */
const maxAddress = 107;

/**
 * Listens on a unix socket; its directory is made. The socket a dead process left is replaced.
 *
 * It is bound under another name and moved into place with its mode set, so that nobody can connect before;
 * and because Node removes the name it bound when the server closes, whoever owns it by then.
 * @returns closes the server, and removes the socket unless somebody else has put theirs in its place
 * @throws AlreadyExists when somebody listens there, FailedPrecondition when something else is in the way
 */
export async function listenUnix(server: Server, path: string, mode: number): Promise<Close> {
  if (Buffer.byteLength(path) > maxAddress) {
    throw new InvalidArgument(
      `the socket path ${path} is longer than ${maxAddress} bytes; choose a shorter one`,
    );
  }
  const bound = `${path.slice(0, -1)}~`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await refuseLiveOwner(path);
    await rm(bound, { force: true });
    await listening(server, { path: bound });
    await chmod(bound, mode);
    await rename(bound, path);
  } catch (error) {
    if (server.listening) await closed(server);
    throw fromNodeError(error, `listen on ${path}`);
  }
  const made = await lstat(path);
  return async () => {
    const now = await lstatIfThere(path);
    if (now !== undefined && now.dev === made.dev && now.ino === made.ino) await unlink(path);
    await closed(server);
  };
}

/** Listens on a socket that somebody else has bound, such as systemd. @returns closes the server */
export async function listenFd(server: Server, fd: number): Promise<Close> {
  try {
    await listening(server, { fd });
  } catch (error) {
    throw fromNodeError(error, `listen on the passed file descriptor ${fd}`);
  }
  return () => closed(server);
}

/**
 * Listens on TCP. @param address `HOST:PORT`, an IPv6 host in brackets; port 0 takes a free one
 * @returns closes the server
 * @throws InvalidArgument, AlreadyExists when the address is in use
 */
export async function listenTcp(server: Server, address: string): Promise<Close> {
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(address) ?? [];
  if (host === undefined)
    throw new InvalidArgument(`the address "${address}" is not understood; use HOST:PORT`);
  try {
    await listening(server, { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port) });
  } catch (error) {
    throw fromNodeError(error, `listen on ${address}`);
  }
  return () => closed(server);
}

/**
 * The sockets that systemd passed to this process, by name (sd_listen_fds(3), `FileDescriptorName=`); a single
 * one without a name is called `unknown`. Empty when the variables are meant for another process.
 * @throws InvalidArgument
 */
export function activatedSockets(env: NodeJS.ProcessEnv, pid: number): ReadonlyMap<string, number> {
  const sockets = new Map<string, number>();
  if (env.LISTEN_PID !== String(pid)) return sockets;
  const count = Number(env.LISTEN_FDS);
  if (!Number.isInteger(count) || count < 0) {
    throw new InvalidArgument(
      `LISTEN_FDS is "${env.LISTEN_FDS ?? ''}"; it must be the number of passed sockets`,
    );
  }
  const names = env.LISTEN_FDNAMES?.split(':') ?? [];
  const firstFd = 3;
  for (let index = 0; index < count; index += 1) {
    const name = names[index] || 'unknown';
    if (sockets.has(name)) {
      throw new InvalidArgument(
        `two passed sockets are named "${name}"; give each its own socket unit with another FileDescriptorName=`,
      );
    }
    sockets.set(name, firstFd + index);
  }
  return sockets;
}

async function refuseLiveOwner(path: string): Promise<void> {
  const there = await lstatIfThere(path);
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw new FailedPrecondition(
      `${path} exists and is not a socket; move it away or configure another path`,
    );
  }
  if (await answers(path)) {
    throw new AlreadyExists(`another process listens on ${path}; stop it or configure another path`);
  }
}

/** Whether anybody listens: only a refused connection proves that nobody does (unix(7)). */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    const settle = (alive: boolean) => {
      socket.destroy();
      resolve(alive);
    };
    socket.setTimeout(2000, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', error => settle(!['ECONNREFUSED', 'ENOENT'].includes(errorCode(error) ?? '')));
  });
}

async function lstatIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw fromNodeError(error, `look at ${path}`);
  }
}

function listening(server: Server, where: ListenOptions & { readonly fd?: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** That of an HTTP server would close idle connections at once, under a request that is on its way. */
function closed(server: Server): Promise<void> {
  return new Promise(resolve => void Server.prototype.close.call(server, () => resolve()));
}
