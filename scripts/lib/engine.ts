import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FailedPrecondition } from '../../src/errors/errors.ts';
import { engineAnswers } from './http.ts';
import { launch } from './launch.ts';
import { childrenOf, identify, isReaped, kill, type ProcessId } from './proc.ts';
import { until } from './wait.ts';

export interface EngineOptions {
  /** A directory for this engine alone: {@link removeEngine} deletes it. */
  readonly directory: string;
  /** A directory with `dockerd` and `containerd` to use instead of the installed ones. */
  readonly binDir?: string | undefined;
  /** A containerd to keep images in, by its socket, and the name that a snapshotter has there. */
  readonly imageStore?: { readonly containerd: string; readonly snapshotter: string } | undefined;
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
  const { directory, binDir, imageStore, args = [], readyMs = 60_000 } = options;
  const files = engineFiles(directory);
  if (Buffer.byteLength(join(directory, longestSocket)) > 107) {
    throw new FailedPrecondition(`the path ${directory} is too long for a socket; use a shorter one`);
  }
  await mkdir(directory, { recursive: true });
  const inContainerd = imageStore === undefined ? [] : await keepImagesIn(directory, imageStore);
  return launch({
    ...{ program: 'dockerd', directory, binDir, log: files.log, readyMs },
    args: dockerdArguments(files, [...inContainerd, ...args]),
    answers: () => engineAnswers(files.socket),
  });
}

/** @returns the arguments with which dockerd, from 26 on, keeps its images in a containerd that is there */
async function keepImagesIn(
  directory: string,
  { containerd, snapshotter }: NonNullable<EngineOptions['imageStore']>,
): Promise<readonly string[]> {
  const config = join(directory, 'daemon.json');
  await writeFile(config, JSON.stringify({ features: { 'containerd-snapshotter': true } }));
  return ['--config-file', config, '--containerd', containerd, '--storage-driver', snapshotter];
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
