/**
 * Unions in user space, by the program fuse-overlayfs(1): one process for each mount, which serves it until it is
 * unmounted. It is not ours to keep alive: it runs in a session of its own and goes on when this process ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { OverlaySource } from '../../core/mount.ts';
import {
  DeadlineExceeded,
  FailedPrecondition,
  Internal,
  InvalidArgument,
  Unimplemented,
} from '../../errors/errors.ts';
import { errorCode, fromErrno, fromNodeError } from '../../errors/from-errno.ts';
import { step } from '../../lib/fault.ts';
import { findFuseServers, isDead } from './fuse-servers.ts';
import { libc } from './native.ts';
import { parseOverlay, showsTheSame } from './overlay-options.ts';
import { callNow, cString, identify, must, unmount } from './system-calls.ts';

const cMemfdCreate = libc.func('int memfd_create(void *name, uint flags)');
const MFD_CLOEXEC = 1;

const program = 'fuse-overlayfs';
/** Milliseconds; hundreds of layers take one second. */
const startDeadline = 20_000;
const pollEvery = 5;

/**
 * Mounts, once: a target that shows the same already is left alone; one whose process has died is mounted anew.
 * @throws FailedPrecondition when something else is mounted there; Unimplemented when the program is not installed;
 * DeadlineExceeded; Internal with the program's own words
 */
export async function mountFuseOverlay(source: OverlaySource, target: string): Promise<void> {
  for (;;) {
    const { errno, file } = await identify(target);
    if (errno !== 0 && errno !== ENOTCONN) throw fromErrno(errno, `look at ${target}`);
    if (errno === 0 && !file.mountRoot) break;
    if (await isServed(source, target)) return;
    await clear(target);
  }
  await step('fuse.mount', () => startFuseServer([program], source, target));
}

/** @returns false when the process has died @throws FailedPrecondition when something else is mounted there */
async function isServed({ options }: OverlaySource, target: string): Promise<boolean> {
  const wanted = parseOverlay(options);
  const servers = (await findFuseServers()).filter(server => server.target === target);
  if (servers.some(server => showsTheSame(parseOverlay(server.options), wanted))) return true;
  if (servers.length === 0 && (await isDead(target))) return false;
  throw new FailedPrecondition(
    `cannot mount a union on ${target}: something else is mounted there; unmount that first`,
  );
}

/**
 * Starts the program and waits until the mount answers. Its complaints go to memory of its own: a pipe would kill it
 * at the first one after this process has ended.
 * @param command the program itself, or one that becomes it
 */
export async function startFuseServer(
  command: readonly string[],
  source: OverlaySource,
  target: string,
): Promise<ChildProcess> {
  const [name = '', ...words] = [...command, '-f', '-o', argumentOf(source), target];
  const complaints = must(
    callNow(cMemfdCreate, cString('fuse-overlayfs'), MFD_CLOEXEC),
    'make a file in memory',
  );
  const settled = new AbortController();
  try {
    const child = spawn(name, words, {
      cwd: '/',
      detached: true,
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      stdio: ['ignore', 'ignore', complaints],
    });
    await settle(child, target, complaints, settled.signal);
    child.unref();
    return child;
  } finally {
    settled.abort();
    closeSync(complaints);
  }
}

async function settle(
  child: ChildProcess,
  target: string,
  complaints: number,
  signal: AbortSignal,
): Promise<void> {
  try {
    await Promise.race([
      isThere(target, signal),
      failureOf(child, target, complaints, signal),
      tooLate(target, signal),
    ]);
  } catch (error) {
    await endServer(child);
    if (await isDead(target)) await clear(target);
    throw error;
  }
}

/** Ends a server at once, and waits until it is gone. */
export async function endServer(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

/** @throws InvalidArgument for a colon, which Debian's fuse-overlayfs 1.10 cannot tell from the end of a path */
function argumentOf({ options }: OverlaySource): string {
  const { lowers, upper, work, settings } = parseOverlay(options);
  for (const path of lowers) {
    if (path.includes(':'))
      throw new InvalidArgument(
        `fuse-overlayfs cannot use ${path}: its path holds a colon; choose another root`,
      );
  }
  const writable = upper === undefined ? ['ro'] : [`upperdir=${upper}`, `workdir=${work ?? ''}`];
  // Without `dev` devices do not work, unlike in overlayfs. With its write-back cache a write that does not fit would
  // succeed, and only fsync(2) or close(2) say that it is lost.
  const words = [...settings, 'dev', 'writeback=0', ...writable, `lowerdir=${lowers.join(':')}`];
  return words.map(word => word.replace(/[\\,]/g, '\\$&')).join(',');
}

async function isThere(target: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const { errno, file } = await identify(target);
    if (errno === 0 && file.mountRoot) return;
    await pause(pollEvery);
  }
}

async function failureOf(
  child: ChildProcess,
  target: string,
  complaints: number,
  signal: AbortSignal,
): Promise<never> {
  try {
    await once(child, 'exit', { signal });
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw fromNodeError(error, `run ${program}`);
    throw new Unimplemented(`${program} is not installed; install the package ${program}`);
  }
  const words = Buffer.alloc(4096);
  const text = words.toString('utf8', 0, readSync(complaints, words, 0, words.length, 0)).trim();
  throw new Internal(`${program} could not mount on ${target}: ${text.split('\n').at(-1) ?? ''}`);
}

async function tooLate(target: string, signal: AbortSignal): Promise<never> {
  await pause(startDeadline, undefined, { signal });
  throw new DeadlineExceeded(
    `${program} did not mount on ${target} within ${startDeadline / 1000} s and was stopped; try again when the host is less busy`,
  );
}

/** Unmounts what answers no more. */
async function clear(target: string): Promise<void> {
  const { errno } = await unmount(target);
  if (errno !== 0 && errno !== EINVAL) throw fromErrno(errno, `unmount ${target}`);
}

const EINVAL = 22;
const ENOTCONN = 107;
