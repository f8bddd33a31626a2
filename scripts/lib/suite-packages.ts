import { cp, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Internal, NotFound } from '../../src/errors/errors.ts';
import { sourcesOf } from './apt-sources.ts';
import { must, type RunOptions, run } from './process.ts';

/**
 * Fetches packages of another Debian suite with this machine's own mirrors, keys and proxies, and unpacks them
 * into a directory: nothing is installed, and apt's own state stays as it is.
 * @throws Internal with apt's words
 */
export async function fetchPackages(
  suite: string,
  packages: readonly string[],
  target: string,
): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'varve-apt-'));
  try {
    const options = await privateApt(scratch, suite);
    const environment: RunOptions = { cwd: scratch, timeoutMs: 10 * 60_000 };
    await must('apt-get', [...options, 'update'], environment);
    const wanted = await existing(packages, options);
    await must('apt-get', [...options, 'download', ...wanted], environment);
    const archives = (await readdir(scratch)).filter(name => name.endsWith('.deb'));
    const root = join(scratch, 'root');
    for (const archive of archives) await must('dpkg-deb', ['--extract', join(scratch, archive), root]);
    await linkPrograms(root, join(scratch, 'bin'), join(target, 'root'));
    await writeFile(join(scratch, 'packages'), `${archives.sort().join('\n')}\n`);
    await putInPlace(scratch, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Some packages exist in some suites only: `docker-cli` is a part of `docker.io` in the older ones. */
async function existing(packages: readonly string[], options: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await must('apt-cache', [...options, '--quiet', 'policy', ...packages]);
  const found = packages.filter(name =>
    new RegExp(`^${name.replaceAll('.', '\\.')}:\\n.*\\n  Candidate: [^(]`, 'm').test(stdout),
  );
  if (found.includes(packages[0] ?? '')) return found;
  throw new NotFound(
    `this suite has no package ${packages[0]}; it has ${found.join(', ') || 'none of those asked for'}`,
  );
}

/** Options that give apt a state, cache and source list of its own (apt.conf(5)). */
async function privateApt(scratch: string, suite: string): Promise<readonly string[]> {
  for (const directory of ['state/lists/partial', 'cache/archives/partial', 'root']) {
    await mkdir(join(scratch, directory), { recursive: true });
  }
  await writeFile(join(scratch, 'status'), '');
  const sources = join(scratch, 'debian.sources');
  await writeFile(sources, await sourcesOf(suite));
  const settings = {
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': join(scratch, 'state'),
    'Dir::State::status': join(scratch, 'status'),
    'Dir::Cache': join(scratch, 'cache'),
    // The scratch directory is ours alone, so that apt's own user could not read it.
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
  };
  return Object.entries(settings).flatMap(([key, value]) => ['--option', `${key}=${value}`]);
}

/** Links every program into one directory for PATH, except runc: that of this machine fits its kernel and libc. */
async function linkPrograms(root: string, bin: string, finalRoot: string): Promise<void> {
  await mkdir(bin);
  for (const directory of ['bin', 'sbin', 'usr/bin', 'usr/sbin']) {
    for (const name of await readdir(join(root, directory)).catch(() => [])) {
      if (name !== 'runc') await symlink(join(finalRoot, directory, name), join(bin, name));
    }
  }
}

async function putInPlace(scratch: string, target: string): Promise<void> {
  await rm(target, { recursive: true, force: true });
  await mkdir(target, { recursive: true });
  for (const name of ['root', 'bin', 'packages']) {
    await rename(join(scratch, name), join(target, name)).catch(() =>
      cp(join(scratch, name), join(target, name), { recursive: true, verbatimSymlinks: true }),
    );
  }
}

/** The first line that a program prints about its version. @throws Internal when it does not run */
export async function versionOf(program: string): Promise<string> {
  const result = await run(program, ['--version']);
  if (result.exitCode === 0) return result.stdout.trim().split('\n')[0] ?? '';
  throw new Internal(`${program} does not run on this machine: ${result.stderr.trim()}`);
}
