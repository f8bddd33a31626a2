import { readdir, rm, rmdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { FailedPrecondition, messageOf } from '../src/errors/errors.ts';
import { engineFiles } from './lib/engine.ts';
import { emptyEngine } from './lib/engine-on-varve.ts';
import { ask } from './lib/http.ts';
import { mountsBelow, unmountBelow } from './lib/mounts.ts';
import { stateDirectory } from './lib/paths.ts';
import { end, isAlive } from './lib/proc.ts';
import { registryDown } from './lib/registry.ts';
import { engineProcesses, removeEngine } from './lib/remove-engine.ts';
import { type DaemonPaths, engineDirectory, readState, type UpState } from './lib/state.ts';

/** Stops what `up` started, in an order that lets each part release what it holds. */
async function main(): Promise<void> {
  const state = await stateNow();
  const { engine, daemon, paths } = state;
  if (engine?.kind === 'found' && daemon !== undefined) await refuseWhileUsed(engine.socket);
  // The engine goes first, while the daemon can still answer its Unmount calls.
  if (await engineRemains()) {
    if (engine?.name !== undefined) await emptyEngine(engine).catch(() => undefined);
    await removeEngine(engineDirectory);
    console.log('Stopped the private engine, with its containers.');
  }
  if (daemon !== undefined && paths !== undefined) await stopDaemon(daemon, paths);
  if (state.registry !== undefined) console.log(await registryDown());
  await verify(paths);
  await rm(stateDirectory, { recursive: true, force: true });
  if (engine !== undefined) console.log(farewell(state));
  else if (state.registry === undefined) console.log('Nothing was up.');
}

/** The state, without a daemon that has ended since and whose place another one has taken. */
async function stateNow(): Promise<UpState> {
  const { daemon, ...others } = readState();
  if (daemon === undefined) return others;
  const replaced =
    !isAlive(daemon) && others.paths !== undefined && (await isServed(others.paths.adminSocket));
  return replaced ? others : { ...others, daemon };
}

async function engineRemains(): Promise<boolean> {
  const files = engineFiles(engineDirectory);
  const processes = ['dockerd', 'containerd', 'containerd-shim'].flatMap(name =>
    engineProcesses(files, name),
  );
  return processes.length > 0 || (await readdir(engineDirectory).catch(() => [])).length > 0;
}

/** A container of an engine that is not ours keeps running, and would lose its volume. */
async function refuseWhileUsed(socket: string): Promise<void> {
  const answer = await ask(socket, 'GET', '/containers/json').catch(() => undefined);
  if (answer?.status !== 200) return;
  type Container = { readonly Names: string[]; readonly Mounts: { readonly Driver?: string }[] };
  const users = (JSON.parse(answer.body) as Container[]).filter(({ Mounts }) =>
    Mounts.some(mount => mount.Driver === 'varve'),
  );
  if (users.length === 0) return;
  const names = users.map(({ Names }) => (Names[0] ?? '').replace('/', ''));
  throw new FailedPrecondition(
    `containers still use volumes of varve: docker stop ${names.join(' ')}, then repeat`,
  );
}

async function stopDaemon(daemon: NonNullable<UpState['daemon']>, paths: DaemonPaths): Promise<void> {
  if (isAlive(daemon)) {
    const how = await end(daemon, 30_000);
    console.log(
      how === 'terminated' ? 'Stopped the daemon.' : 'Killed the daemon: it did not end within 30 s.',
    );
  }
  await unmountBelow(join(paths.root, 'mnt'));
  for (const socket of [...paths.pluginSockets, paths.adminSocket]) await removeDeadSocket(socket);
  await removeRunDirectory(paths.run);
}

/** A daemon that was killed leaves its sockets; one that somebody serves by now is not ours. */
async function removeDeadSocket(path: string): Promise<void> {
  if (!(await isServed(path))) await rm(path, { force: true });
}

function isServed(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const connection = connect(path);
  connection.on('connect', () => resolve(true)).on('error', () => resolve(false));
  return promise.finally(() => connection.destroy());
}

/** What a reboot clears anyway; a directory of another name may hold more than ours. */
async function removeRunDirectory(path: string): Promise<void> {
  if (!/^varve\b/.test(basename(path)))
    return console.log(`${path} stays: its name does not say that it is varve's.`);
  for (const entry of await readdir(path, { withFileTypes: true }).catch(() => [])) {
    if (!entry.isDirectory()) await rm(join(path, entry.name), { force: true });
  }
  await rmdir(path).catch(() => undefined);
}

async function verify(paths: DaemonPaths | undefined): Promise<void> {
  const left = [stateDirectory, ...(paths === undefined ? [] : [join(paths.root, 'mnt')])].flatMap(
    mountsBelow,
  );
  if (left.length > 0)
    throw new FailedPrecondition(`still mounted: ${left.join(', ')}; unmount them, then repeat`);
}

function farewell({ engine, daemon, paths }: UpState): string {
  const root = paths?.root ?? '';
  const lines = daemon === undefined ? ['A daemon that was there before was left alone.'] : [];
  if (engine?.kind === 'found') {
    lines.push(
      `The engine at ${engine.socket} was not ours and runs on. It remembers the plugin until it restarts: its`,
      'commands about volumes may take 15 s longer until then.',
    );
  }
  if (root !== '') {
    lines.push(
      `The volumes are still in ${root}; scripts/up serves them again. To delete them for good:`,
      `  chattr -R -i ${root}/mnt; rm -rf ${root}`,
    );
  }
  return lines.join('\n');
}

await main().catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
