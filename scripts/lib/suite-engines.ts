import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NotFound } from '../../src/errors/errors.ts';
import { cacheDirectory } from './paths.ts';
import { fetchPackages, versionOf } from './suite-packages.ts';

/** What an engine of a suite consists of; the first must exist there. */
export const enginePackages = ['docker.io', 'docker-cli', 'containerd'];

/** Where engines of other suites are unpacked, each in a directory with the name of its suite. */
export const engineCache = join(cacheDirectory, 'engines');

/** Without one of them, that of the system would be found behind them in PATH. */
const enginePrograms = ['dockerd', 'containerd', 'docker'];

export function hasEngine(suite: string): boolean {
  return missingPrograms(suite).length === 0;
}

/** The directory for PATH of a suite's engine. @throws NotFound when it was not fetched, or not all of it */
export function engineBin(suite: string): string {
  const missing = missingPrograms(suite);
  if (missing.length === 0) return join(engineCache, suite, 'bin');
  throw new NotFound(
    `there is no ${missing.join(', no ')} of ${suite}; scripts/engines fetch ${suite} gets its engine`,
  );
}

function missingPrograms(suite: string): readonly string[] {
  return enginePrograms.filter(name => !existsSync(join(engineCache, suite, 'bin', name)));
}

/**
 * Downloads packages of a suite in place of what was there, and tries their programs.
 * @returns the version of each program of the engine
 * @throws Internal; NotFound when a program of the engine is not among them. Nothing is kept then
 */
export async function fetchEngine(
  suite: string,
  packages: readonly string[] = enginePackages,
): Promise<readonly string[]> {
  const target = join(engineCache, suite);
  await fetchPackages(suite, packages, target);
  try {
    const bin = engineBin(suite);
    return await Promise.all(enginePrograms.map(name => versionOf(join(bin, name))));
  } catch (error) {
    await rm(target, { recursive: true, force: true });
    throw error;
  }
}
