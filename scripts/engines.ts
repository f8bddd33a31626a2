import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidArgument, messageOf } from '../src/errors/errors.ts';
import { registryDown, registryUp } from './lib/registry.ts';
import { engineBin, engineCache, enginePackages, fetchEngine } from './lib/suite-engines.ts';

const usage = `scripts/engines fetch SUITE [PACKAGE...]   download the engine of a Debian suite, such as trixie or sid
scripts/engines list                        what is there
scripts/engines path SUITE                  its directory for PATH
scripts/engines registry up|down            a registry of images and plugins on 127.0.0.1:5000

Packages are unpacked beside the system's and never installed; by default ${enginePackages.join(', ')}.`;

async function fetch(suite: string, packages: readonly string[]): Promise<void> {
  console.log(`Fetching ${packages.join(', ')} of ${suite} ...`);
  for (const version of await fetchEngine(suite, packages)) console.log(version);
  console.log(`Its programs are in ${engineBin(suite)}`);
}

async function list(): Promise<void> {
  const suites = await readdir(engineCache).catch(() => []);
  if (suites.length === 0) console.log('none; scripts/engines fetch trixie gets one');
  for (const suite of suites) {
    const packages = await readFile(join(engineCache, suite, 'packages'), 'utf8').catch(() => 'incomplete');
    console.log(`${suite}: ${packages.trim().split('\n').join(' ')}`);
  }
}

async function main([command, suite, ...packages]: readonly string[]): Promise<void> {
  if (command === 'registry' && suite === 'up') return console.log(await registryUp());
  if (command === 'registry' && suite === 'down') return console.log(await registryDown());
  if (command === 'list' && suite === undefined) return list();
  if (suite !== undefined && !/^[a-z][a-z-]*$/.test(suite))
    throw new InvalidArgument(`${suite} is not the name of a suite\n${usage}`);
  if (command === 'fetch' && suite !== undefined)
    return fetch(suite, packages.length > 0 ? packages : enginePackages);
  if (command === 'path' && suite !== undefined) return console.log(engineBin(suite));
  throw new InvalidArgument(usage);
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
