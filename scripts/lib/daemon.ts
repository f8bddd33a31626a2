import { spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../../src/config/load.ts';
import { Internal } from '../../src/errors/errors.ts';
import { nodeBinary, varveScript } from './paths.ts';
import { identify, isAlive, type ProcessId } from './proc.ts';
import { type Result, run, tail } from './process.ts';
import { binDirectory, type DaemonPaths, daemonConfig, daemonLog } from './state.ts';
import { until } from './wait.ts';

/** What an installed varve has is left alone: one root has one daemon. */
const environment: NodeJS.ProcessEnv = {
  ...{ VARVE_ROOT: '/var/lib/varve-up', VARVE_RUN: '/run/varve-up' },
  ...process.env,
};
// After `down` the caller's shell still names a file that is gone.
if (environment['VARVE_CONFIG'] === daemonConfig) delete environment['VARVE_CONFIG'];

/**
 * Where a daemon started now would keep what it has. @param configFile one of ours, before that of the environment
 * @throws InvalidArgument for a wrong configuration
 */
export function daemonPaths(configFile?: string): DaemonPaths {
  const { config } = loadConfig({ environment: environmentWith(configFile) });
  const { root, run: runDirectory, adminSocket, drivers } = config;
  return {
    root,
    run: runDirectory,
    adminSocket,
    pluginSockets: Object.values(drivers).map(driver => driver.socket),
    ...(configFile !== undefined && { configFile }),
  };
}

function environmentWith(configFile: string | undefined): NodeJS.ProcessEnv {
  return configFile === undefined ? environment : { ...environment, VARVE_CONFIG: configFile };
}

/** Runs the `varve` command of this checkout. */
export function varve(paths: DaemonPaths, ...args: string[]): Promise<Result> {
  const env = { ...process.env, VARVE_SOCKET: paths.adminSocket };
  return run(nodeBinary, [varveScript, ...args], { env, timeoutMs: 30_000 });
}

export async function daemonAnswers(paths: DaemonPaths): Promise<boolean> {
  return (await varve(paths, 'status')).exitCode === 0;
}

/** Starts the daemon, which outlives us, and waits until it answers. @throws Internal with the end of its log */
export async function startDaemon(paths: DaemonPaths, engineSocket: string): Promise<ProcessId> {
  const log = openSync(daemonLog, 'a');
  const child = spawn(nodeBinary, [varveScript, 'daemon', '--engine', `unix://${engineSocket}`], {
    cwd: '/',
    env: environmentWith(paths.configFile),
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.unref();
  const id = child.pid === undefined ? undefined : identify(child.pid);
  const state = await until('the daemon to answer', 30_000, async () => {
    if (id === undefined || !isAlive(id)) return 'dead';
    return (await daemonAnswers(paths)) && 'ready';
  }).catch(() => 'silent');
  if (id !== undefined && state === 'ready') return id;
  const what = state === 'dead' ? 'ended before it answered' : 'does not answer';
  throw new Internal(
    `the varve daemon ${what}; the end of ${daemonLog}:\n${tail(readFileSync(daemonLog, 'utf8'), 15)}`,
  );
}

/** Puts the command `varve` of this checkout into a directory for PATH. */
export function writeCommand(): void {
  mkdirSync(binDirectory, { recursive: true });
  const command = join(binDirectory, 'varve');
  writeFileSync(command, `#!/bin/sh\nexec ${quote(nodeBinary)} ${quote(varveScript)} "$@"\n`);
  chmodSync(command, 0o755);
}

/** A word that a POSIX shell reads back as it is. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
