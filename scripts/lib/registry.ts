import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { FailedPrecondition, Internal, messageOf } from '../../src/errors/errors.ts';
import { installPackages } from './packages.ts';
import { stateDirectory } from './paths.ts';
import { end, identify, isAlive, kill, type ProcessId } from './proc.ts';
import { tail } from './process.ts';
import { readState, remember } from './state.ts';
import { until } from './wait.ts';

const ownDirectory = join(stateDirectory, 'registry');
/** The port that everybody's examples have. */
const ownAddress = '127.0.0.1:5000';

/** Starts the registry of this checkout unless it runs. @returns what to say @throws FailedPrecondition */
export async function registryUp(): Promise<string> {
  const { registry } = readState();
  if (registry !== undefined && isAlive(registry)) return `The registry on ${ownAddress} was running.`;
  if (await registryAnswers(ownAddress))
    throw new FailedPrecondition(`another registry serves ${ownAddress} already; use that one, or stop it`);
  await startRegistry(ownDirectory, ownAddress, id => remember({ registry: id }));
  return `A registry serves ${ownAddress}, and keeps its images in ${ownDirectory}.`;
}

/** Stops the registry that {@link registryUp} has started; its images stay. @returns what to say */
export async function registryDown(): Promise<string> {
  const { registry } = readState();
  if (registry === undefined || !isAlive(registry)) return 'No registry was running.';
  await end(registry, 10_000);
  return 'Stopped the registry.';
}

/**
 * Starts Debian's docker-registry, which outlives us, and waits until it answers.
 * @param directory where it keeps its images, configuration and log
 * @param address such as `127.0.0.1:5000`: engines speak HTTP to a registry of this machine
 * @param onStarted called as soon as there is a process: who interrupts the wait can end it then
 * @throws Internal with the end of its log
 */
export async function startRegistry(
  directory: string,
  address: string,
  onStarted: (id: ProcessId) => void = () => {},
): Promise<ProcessId> {
  await installPackages(['docker-registry']);
  const config = join(directory, 'config.yml');
  await mkdir(directory, { recursive: true });
  await writeFile(config, stringify(configuration(join(directory, 'data'), address)));
  const logFile = join(directory, 'log');
  const log = openSync(logFile, 'a');
  const child = spawn('docker-registry', ['serve', config], {
    cwd: directory,
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const failure = new Promise<never>((_, reject) => child.on('error', reject));
  child.unref();
  const id = child.pid === undefined ? undefined : identify(child.pid);
  if (id !== undefined) onStarted(id);
  const ended = () => id === undefined || !isAlive(id);
  const state = await Promise.race([
    failure,
    until('the registry to answer', 20_000, async () => (ended() ? 'ended' : await registryAnswers(address))),
  ]).catch(messageOf);
  if (id !== undefined && state === true && !ended()) return id;
  if (id !== undefined) await kill(id);
  throw new Internal(
    `the registry does not serve ${address}; the end of ${logFile}:\n${tail(readFileSync(logFile, 'utf8'), 15)}`,
  );
}

/** Whether a registry answers there (the distribution API says so on /v2/). */
function registryAnswers(address: string): Promise<boolean> {
  return new Promise(resolve => {
    const sent = request(`http://${address}/v2/`, { timeout: 2_000, agent: false }, response => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    sent.on('error', () => resolve(false)).on('timeout', () => sent.destroy());
    sent.end();
  });
}

function configuration(rootdirectory: string, addr: string): object {
  return { version: 0.1, storage: { filesystem: { rootdirectory } }, http: { addr }, log: { level: 'warn' } };
}
