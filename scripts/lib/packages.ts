import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { must, type RunOptions, run } from './process.ts';

/** Says to package scripts that they may start no service: exit code 101 (deb-systemd-invoke(1p)). */
const policyFile = '/usr/sbin/policy-rc.d';
const policy = '#!/bin/sh\n# While varve installs what its tests need.\nexit 101\n';

const apt: RunOptions = {
  env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
  timeoutMs: 15 * 60_000,
};

/** The packages of a list that are not installed. */
async function missingPackages(names: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await run('dpkg-query', [
    '--show',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query(1) wants it so
    '--showformat=${Package} ${db:Status-Abbrev}\n',
    ...names,
  ]);
  const installed = stdout
    .split('\n')
    .filter(line => line.includes(' ii'))
    .map(line => line.split(' ')[0]);
  return names.filter(name => !installed.includes(name));
}

/**
 * Installs what is missing, and starts no service: an engine that a package brings stays off.
 * @returns the packages that were installed
 */
export async function installPackages(names: readonly string[]): Promise<readonly string[]> {
  const missing = await missingPackages(names);
  if (missing.length === 0) return [];
  if (!(await haveLists())) await must('apt-get', ['update'], apt);
  await withoutServices(policyFile, async () => {
    const install = ['install', '--yes', '--no-install-recommends', ...missing];
    const first = await run('apt-get', install, apt);
    if (first.exitCode === 0) return;
    // Old lists name versions that the archive no longer has.
    await must('apt-get', ['update'], apt);
    await must('apt-get', install, apt);
  });
  return missing;
}

async function haveLists(): Promise<boolean> {
  const files = await readdir('/var/lib/apt/lists').catch(() => []);
  return files.some(file => file.includes('_Packages'));
}

/** Puts our policy into a file meanwhile. That of an administrator stays; ours is what a killed run left. */
export async function withoutServices(file: string, act: () => Promise<void>): Promise<void> {
  const found = await readFile(file, 'utf8').catch(() => policy);
  if (found !== policy) return act();
  await writeFile(file, policy, { mode: 0o755 });
  try {
    await act();
  } finally {
    await rm(file, { force: true });
  }
}
