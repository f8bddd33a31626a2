import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownSource } from './apt-sources.ts';
import { unmountBelow } from './mounts.ts';
import { installPackages } from './packages.ts';
import { cacheDirectory } from './paths.ts';
import { must } from './process.ts';

const minutes = 60_000;

/**
 * Lays out a Debian with its essential packages, those of `include` and what these need, in a directory: the
 * suite that this machine runs, from the mirror that it uses.
 * @throws Internal with the words of debootstrap
 */
export async function makeDebianTree(target: string, include: readonly string[]): Promise<void> {
  const tar = await debianTar(include);
  await mkdir(target, { recursive: true });
  await must('tar', [...asItIs, '--extract', '--file', tar, '--directory', target], {
    timeoutMs: 5 * minutes,
  });
}

/** The same as a tar. It is made once for each suite and list of packages, and kept: remove it to make it anew. */
export async function debianTar(include: readonly string[]): Promise<string> {
  const { suite, source } = await ownSource();
  const packages = [...new Set(include)].sort();
  const key = createHash('sha256').update(packages.join(' ')).digest('hex').slice(0, 12);
  const tar = join(cacheDirectory, 'debian', `${suite}-${process.arch}-${key}.tar`);
  if (existsSync(tar)) return tar;
  await installPackages(['debootstrap']);
  await mkdir(join(cacheDirectory, 'debian'), { recursive: true });
  const directory = await mkdtemp(join(tmpdir(), 'varve-debian-'));
  const made = `${tar}.${process.pid}`;
  try {
    const root = join(directory, 'root');
    const [mirror = ''] = source.uris.split(/\s+/);
    const options = ['--variant=minbase', ...includeOption(packages), ...keyringOption(source.options)];
    await must('debootstrap', [...options, suite, root, mirror], { timeoutMs: 15 * minutes });
    await must('chroot', [root, 'apt-get', 'clean']);
    await must('tar', [...asItIs, '--create', '--file', made, '--directory', root, '.'], {
      timeoutMs: 5 * minutes,
    });
    await rename(made, tar);
    return tar;
  } finally {
    // A debootstrap that was interrupted leaves /proc and /sys of this machine mounted in its tree.
    await unmountBelow(directory);
    // What it had started may still be at work, for a moment.
    await rm(directory, { recursive: true, force: true, maxRetries: 10 });
    await rm(made, { force: true });
  }
}

/** A file of root stays one of root, with its capabilities. */
const asItIs = ['--numeric-owner', '--xattrs', '--xattrs-include=*'];

function includeOption(packages: readonly string[]): readonly string[] {
  return packages.length === 0 ? [] : [`--include=${packages.join(',')}`];
}

function keyringOption(options: readonly string[]): readonly string[] {
  const keyring = options.map(option => /^Signed-By: (\/\S+)$/.exec(option)?.[1]).find(Boolean);
  return keyring === undefined ? [] : [`--keyring=${keyring}`];
}
