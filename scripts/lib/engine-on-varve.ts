import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FailedPrecondition, InvalidArgument } from '../../src/errors/errors.ts';
import { containerdFiles, launchContainerd, programIn } from './containerd.ts';
import { type EngineOptions, engineFiles, launchEngine } from './engine.ts';
import { ask, engineAnswers } from './http.ts';
import { installPackages } from './packages.ts';
import { must } from './process.ts';
import { type DaemonPaths, daemonConfig, engineDirectory, type UpState } from './state.ts';
import { engineBin, fetchEngine, hasEngine } from './suite-engines.ts';

interface EngineKind {
  readonly major: number;
  /** The Debian suite that it is from; undefined for the installed one. */
  readonly suite: string | undefined;
  /** Docker up to 27 knows varve as a graph driver, later ones as a snapshotter of containerd. */
  readonly isSnapshotter: boolean;
}

const kinds: Readonly<Record<string, EngineKind>> = {
  'docker-20': { major: 20, suite: undefined, isSnapshotter: false },
  'docker-26': { major: 26, suite: 'trixie', isSnapshotter: false },
  'docker-28': { major: 28, suite: 'sid', isSnapshotter: true },
};

export const engineKinds = Object.keys(kinds);

/** @throws InvalidArgument */
export function requireKind(name: string): void {
  if (!engineKinds.includes(name))
    throw new InvalidArgument(`there is no engine ${name}; those there are: ${engineKinds.join(', ')}`);
}

/** Makes the daemon serve the private engine that is to be. @returns the path of its configuration */
export function writeDaemonConfig(): string {
  const { socket } = containerdFiles(engineDirectory);
  writeFileSync(daemonConfig, `snapshotters: { varve: { containerd: ${JSON.stringify(socket)} } }\n`);
  return daemonConfig;
}

/**
 * Starts a private engine that keeps its images and containers on the varve that runs.
 * @throws FailedPrecondition when the installed engine is another one; Internal, NotFound
 */
export async function startEngineOnVarve(
  name: string,
  { root, run }: DaemonPaths,
  onProgress: (text: string) => void,
): Promise<NonNullable<UpState['engine']>> {
  const { suite, major, isSnapshotter } = kinds[name] as EngineKind;
  const { socket } = engineFiles(engineDirectory);
  const binDir = await programs(suite, onProgress);
  const engine = { kind: 'private', socket, name, ...(binDir !== undefined && { binDir }) } as const;
  if (await engineAnswers(socket)) return engine;
  const { stdout } = await must(programIn(binDir, 'dockerd'), ['--version']);
  if (!stdout.includes(`version ${major}.`)) {
    throw new FailedPrecondition(`${name} is asked for, and there is ${stdout.trim()}; choose another one`);
  }
  onProgress('starting it');
  const options = { directory: engineDirectory, binDir } satisfies EngineOptions;
  if (!isSnapshotter) {
    await launchEngine({ ...options, args: ['--experimental', '--storage-driver', 'varve'] });
    return engine;
  }
  const varve = { socket: join(run, 'containerd.sock'), root: join(root, 'layers/containerd') };
  await launchContainerd({ ...options, varve });
  const { socket: containerd } = containerdFiles(engineDirectory);
  await launchEngine({ ...options, imageStore: { containerd, snapshotter: 'varve' } });
  return engine;
}

async function programs(
  suite: string | undefined,
  onProgress: (text: string) => void,
): Promise<string | undefined> {
  await installPackages(['docker.io']);
  if (suite === undefined) return undefined;
  if (!hasEngine(suite)) {
    onProgress(`fetching the engine of Debian ${suite}`);
    await fetchEngine(suite);
  }
  return engineBin(suite);
}

/** Gives back what an engine keeps in varve: nobody would know those layers once it is gone. */
export async function emptyEngine({ socket }: NonNullable<UpState['engine']>): Promise<void> {
  const ids = async (path: string) => {
    const { status, body } = await ask(socket, 'GET', path);
    return status === 200 ? (JSON.parse(body) as { readonly Id: string }[]).map(({ Id }) => Id) : [];
  };
  for (const id of await ids('/containers/json?all=1'))
    await ask(socket, 'DELETE', `/containers/${id}?force=1`);
  for (const id of await ids('/images/json')) await ask(socket, 'DELETE', `/images/${id}?force=1`);
  await ask(socket, 'POST', '/build/prune?all=1', { timeoutMs: 60_000 });
}
