import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { InvalidArgument, messageOf, NotFound } from '../src/errors/errors.ts';
import { fetchPackages, versionOf } from './lib/suite-packages.ts';

const defaultPackages = ['docker.io', 'docker-cli', 'containerd'];

const usage = `scripts/engines fetch SUITE [PACKAGE...]   download the engine of a Debian suite, such as trixie or sid
scripts/engines list                        what is there
scripts/engines path SUITE                  its directory for PATH

Packages are unpacked beside the system's and never installed; by default ${defaultPackages.join(', ')}.`;

const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'varve/engines');

async function fetch(suite: string, packages: readonly string[]): Promise<void> {
  const target = join(cache, suite);
  console.log(`Fetching ${packages.join(', ')} of ${suite} ...`);
  await fetchPackages(suite, packages, target);
  try {
    for (const program of ['dockerd', 'containerd', 'docker']) {
      const path = join(target, 'bin', program);
      if (existsSync(path)) console.log(await versionOf(path));
    }
  } catch (error) {
    await rm(target, { recursive: true, force: true });
    throw error;
  }
  console.log(`Unpacked into ${target}; its programs are in ${join(target, 'bin')}`);
}

async function list(): Promise<void> {
  const suites = await readdir(cache).catch(() => []);
  if (suites.length === 0) console.log('none; scripts/engines fetch trixie gets one');
  for (const suite of suites) {
    const packages = await readFile(join(cache, suite, 'packages'), 'utf8').catch(() => 'incomplete');
    console.log(`${suite}: ${packages.trim().split('\n').join(' ')}`);
  }
}

function printPath(suite: string): void {
  const bin = join(cache, suite, 'bin');
  if (!existsSync(bin))
    throw new NotFound(`there is no engine of ${suite}; scripts/engines fetch ${suite} gets it`);
  console.log(bin);
}

async function main([command, suite, ...packages]: readonly string[]): Promise<void> {
  if (command === 'list' && suite === undefined) return list();
  if (suite !== undefined && !/^[a-z][a-z-]*$/.test(suite))
    throw new InvalidArgument(`${suite} is not the name of a suite\n${usage}`);
  if (command === 'fetch' && suite !== undefined)
    return fetch(suite, packages.length > 0 ? packages : defaultPackages);
  if (command === 'path' && suite !== undefined) return printPath(suite);
  throw new InvalidArgument(usage);
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
