import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidArgument, messageOf } from '../src/errors/errors.ts';
import { version } from '../src/lib/version.ts';
import { buildDeb } from './lib/deb.ts';
import { repository } from './lib/paths.ts';

const usage = `scripts/package deb    make dist/varve_VERSION_ARCH.deb: varve with its own Node, for this machine's processor

The package for npm is made by \`npm pack\`. SOURCE_DATE_EPOCH is the time in the package; by default that of the last
commit. See docs/install.md.`;

async function main(words: readonly string[]): Promise<void> {
  if (words.includes('--help')) return console.log(usage);
  if (words.length !== 1 || words[0] !== 'deb') throw new InvalidArgument(usage);
  const directory = join(repository, 'dist');
  await mkdir(directory, { recursive: true });
  console.log(await buildDeb(directory, { version, compression: 'xz' }));
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
