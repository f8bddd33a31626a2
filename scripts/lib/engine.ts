import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FailedPrecondition, Internal, messageOf } from '../../src/errors/errors.ts';
import { engineAnswers } from './http.ts';
import { childrenOf, identify, isAlive, isReaped, kill, type ProcessId } from './proc.ts';
import { tail } from './process.ts';
import { until } from './wait.ts';

export interface EngineOptions {
  /** A directory for this engine alone: {@link removeEngine} deletes it. */
  readonly directory: string;
  /** A directory with `dockerd` and `containerd` to use instead of the installed ones. */
  readonly binDir?: string | undefined;
  /** Further arguments of dockerd. */
  readonly args?: readonly string[] | undefined;
  /** How long it may take to answer; it waits for the plugins of the volumes that it knows. By default 60 s. */
  readonly readyMs?: number | undefined;
}

/** Where a private engine keeps what it has. */
export interface EngineFiles {
  readonly socket: string;
  readonly pidFile: string;
  readonly log: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  /** Its own namespace keeps its containers apart when dockerd finds the system's containerd and uses that. */
  readonly namespace: string;
}

export function engineFiles(directory: string): EngineFiles {
  return {
    socket: join(directory, 'docker.sock'),
    pidFile: join(directory, 'dockerd.pid'),
    log: join(directory, 'dockerd.log'),
    dataRoot: join(directory, 'data'),
    execRoot: join(directory, 'exec'),
    namespace: `varve-${basename(directory).replaceAll(/[^a-zA-Z0-9]/g, '')}`,
  };
}

/** The longest path that an engine makes below its directory for a unix socket; unix(7) allows 107 bytes. */
const longestSocket = 'exec/containerd/containerd-debug.sock';

/** Starts a dockerd that shares nothing with another one, and waits until it answers. @throws Internal */
export async function launchEngine(options: EngineOptions): Promise<ProcessId> {
  const files = engineFiles(options.directory);
  if (Buffer.byteLength(join(options.directory, longestSocket)) > 107) {
    throw new FailedPrecondition(`the path ${options.directory} is too long for a socket; use a shorter one`);
  }
  await mkdir(options.directory, { recursive: true });
  const log = openSync(files.log, 'a');
  const child = spawn('dockerd', dockerdArguments(files, options.args ?? []), {
    cwd: options.directory,
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, PATH: [options.binDir, process.env.PATH].filter(Boolean).join(':') },
  });
  closeSync(log);
  const failure = new Promise<never>((_, reject) => child.on('error', reject));
  child.unref();
  return Promise.race([failure, ready(child.pid, files, options.readyMs ?? 60_000)]);
}

function dockerdArguments(files: EngineFiles, more: readonly string[]): string[] {
  return [
    ...['--data-root', files.dataRoot, '--exec-root', files.execRoot, '--pidfile', files.pidFile],
    ...['--host', `unix://${files.socket}`, '--iptables=false', '--bridge=none'],
    ...[
      '--containerd-namespace',
      files.namespace,
      '--containerd-plugins-namespace',
      `${files.namespace}-plugins`,
    ],
    ...more,
  ];
}

async function ready(pid: number | undefined, files: EngineFiles, readyMs: number): Promise<ProcessId> {
  const id = pid === undefined ? undefined : identify(pid);
  if (id === undefined) return broken(files, 'ended at once');
  const answer = await until('dockerd to answer', readyMs, async () => {
    if (!isAlive(id)) return 'ended before it answered';
    return (await engineAnswers(files.socket)) && 'ready';
  }).catch(messageOf);
  if (answer === 'ready') return id;
  await kill(id);
  return broken(files, answer);
}

async function broken(files: EngineFiles, what: string): Promise<never> {
  const log = await readFile(files.log, 'utf8').catch(() => '');
  throw new Internal(`dockerd ${what}; the end of ${files.log}:\n${tail(log, 15)}`);
}

/**
 * Ends dockerd as a crash does. The kernel then ends its containerd as well (prctl(2), PR_SET_PDEATHSIG), a moment
 * later: a dockerd that is started while the pid still exists would adopt it, and wait for it in vain.
 */
export async function crashEngine(dockerd: ProcessId): Promise<void> {
  const children = childrenOf(dockerd.pid)
    .map(identify)
    .filter(id => id !== undefined);
  await kill(dockerd);
  await until('dockerd and containerd to be gone', 20_000, () => [dockerd, ...children].every(isReaped));
}
