import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseMountinfo, readMountinfo } from '../../src/host/linux/mountinfo.ts';
import { run } from '../../src/host/linux/run.ts';
import { unmount } from '../../src/host/linux/system-calls.ts';
import { removeTree } from '../../src/host/linux/trees.ts';

/** A temporary directory with what tests mount, and what they start, in it. */
export class Scratch {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Scratch> {
    return new Scratch(await realpath(await mkdtemp(join(tmpdir(), 'varve-host-'))));
  }

  async directory(name: string): Promise<string> {
    const path = join(this.path, name);
    await mkdir(path, { recursive: true });
    return path;
  }

  /** Unmounts what is mounted below, newest first, and deletes everything. */
  async remove(): Promise<void> {
    const points = parseMountinfo(readMountinfo('self')).map(entry => entry.mountPoint);
    const ours = points.filter(point => point === this.path || point.startsWith(`${this.path}/`));
    for (const point of ours.reverse()) await unmount(point);
    const parent = await open(dirname(this.path));
    await removeTree(parent.fd, basename(this.path)).finally(() => parent.close());
  }
}

/** Runs a program that has to succeed. */
export async function must(program: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, { timeout: 20_000 });
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/**
 * Runs a shell script in a mount namespace of its own, up to its line `ready`, and keeps the namespace alive.
 * @param propagation as in unshare(1)
 */
export async function inNamespace(
  propagation: 'private' | 'slave' | 'unchanged',
  script: string,
  ...args: readonly string[]
): Promise<{ readonly pid: number; end(): Promise<void> }> {
  const command = `set -e; ${script}\necho ready; exec sleep 600`;
  const words = ['-m', '--propagation', propagation, 'sh', '-c', command, 'sh', ...args];
  const child = spawn('unshare', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const isReady = await Promise.race([once(child.stdout, 'data').then(() => true), exited.then(() => false)]);
  if (!isReady || child.pid === undefined) throw new Error(`the script ended: ${script}`);
  return {
    pid: child.pid,
    end: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
