import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { AssertionError } from 'chai';
import { must } from '../../scripts/lib/process.ts';
import type { TestEngine } from './engine.ts';

/** Runs a docker command that has to succeed. @returns what it printed */
export async function docker(engine: TestEngine, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await engine.docker(...args);
  if (exitCode === 0) return stdout.trim();
  throw new AssertionError(`docker ${args.join(' ')} ended with ${exitCode}: ${stderr.trim()}`);
}

/** Runs a docker command that has to fail. @returns what it said on the standard error */
export async function refused(engine: TestEngine, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await engine.docker(...args);
  if (exitCode !== 0) return stderr.trim();
  throw new AssertionError(`docker ${args.join(' ')} should have been refused, and printed ${stdout.trim()}`);
}

/** Runs a shell script in a new container, which is gone afterwards. @returns what it printed */
export function inContainer(
  engine: TestEngine,
  args: readonly string[],
  script: string,
  image = 'busybox',
): Promise<string> {
  return docker(engine, 'run', '--rm', '--network', 'host', ...args, image, 'sh', '-c', script);
}

/** Starts a container that stays. @returns its id */
export function startContainer(
  engine: TestEngine,
  args: readonly string[],
  script = 'exec sleep 1000',
): Promise<string> {
  const words = ['run', '--detach', '--network', 'host', '--stop-timeout', '0', ...args];
  return docker(engine, ...words, 'busybox', 'sh', '-c', script);
}

export interface ImageEntry {
  /** The text of a file; without it, a directory. */
  readonly text?: string;
  readonly mode?: string;
  /** `UID:GID`. */
  readonly owner?: string;
}

/** Gives an engine an image of busybox and these files, without a build. */
export async function importImage(
  engine: TestEngine,
  name: string,
  entries: Readonly<Record<string, ImageEntry>>,
  changes: readonly string[] = [],
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'varve-image-'));
  const tar = join(directory, 'image.tar');
  const root = join(directory, 'root');
  try {
    await mkdir(join(root, 'bin'), { recursive: true });
    await copyFile('/bin/busybox', join(root, 'bin/busybox'));
    const { stdout } = await must('/bin/busybox', ['--list']);
    const applets = stdout
      .trim()
      .split('\n')
      .filter(name => name !== 'busybox');
    for (const applet of applets) await symlink('busybox', join(root, 'bin', applet));
    for (const [path, { text, mode, owner }] of Object.entries(entries)) {
      const target = join(root, path);
      await mkdir(text === undefined ? target : dirname(target), { recursive: true });
      if (text !== undefined) await writeFile(target, text);
      if (owner !== undefined) await must('chown', [owner, target]);
      if (mode !== undefined) await must('chmod', [mode, target]);
    }
    await must('tar', ['--create', '--file', tar, '--directory', root, '--numeric-owner', '.']);
    await docker(engine, 'import', ...changes.flatMap(change => ['--change', change]), tar, name);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
