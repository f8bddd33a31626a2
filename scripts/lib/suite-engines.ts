import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { NotFound } from '../../src/errors/errors.ts';
import { fetchPackages, versionOf } from './suite-packages.ts';

/** What an engine of a suite consists of; the first must exist there. */
export const enginePackages = ['docker.io', 'docker-cli', 'containerd'];

/** Where engines of other suites are unpacked, each in a directory with the name of its suite. */
export const engineCache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'varve/engines');

/** The directory for PATH of a suite's engine. @throws NotFound when it was not fetched */
export function engineBin(suite: string): string {
  const bin = join(engineCache, suite, 'bin');
  if (existsSync(bin)) return bin;
  throw new NotFound(`there is no engine of ${suite}; scripts/engines fetch ${suite} gets it`);
}

/**
 * Downloads packages of a suite in place of what was there, and tries their programs.
 * @returns the version of each program of an engine among them
 * @throws Internal, NotFound; nothing is kept then
 */
export async function fetchEngine(
  suite: string,
  packages: readonly string[] = enginePackages,
): Promise<readonly string[]> {
  const target = join(engineCache, suite);
  await fetchPackages(suite, packages, target);
  try {
    const programs = ['dockerd', 'containerd', 'docker'].map(name => join(target, 'bin', name));
    return await Promise.all(programs.filter(existsSync).map(versionOf));
  } catch (error) {
    await rm(target, { recursive: true, force: true });
    throw error;
  }
}
