import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { expect } from 'chai';
import { mountsBelow } from '../../scripts/lib/mounts.ts';
import type { Result } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { MountEntry } from '../../src/core/mount.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import { parseMountinfo, readMountinfo } from '../../src/host/linux/mountinfo.ts';
import { startDaemon, type TestDaemon } from './daemon.ts';
import { startEngine, type TestEngine } from './engine.ts';

export interface TestHostOptions {
  /** Further arguments of dockerd. */
  readonly args?: readonly string[];
  /** Whether varve asks the engine who uses a volume; without, it only sees the plugin calls. */
  readonly asksEngine?: boolean;
}

/** A container host for tests: a real engine, and a varve that serves it. */
export class TestHost {
  readonly engine: TestEngine;
  readonly daemon: TestDaemon;

  private constructor(engine: TestEngine, daemon: TestDaemon) {
    this.engine = engine;
    this.daemon = daemon;
  }

  static async start({ args = [], asksEngine = false }: TestHostOptions = {}): Promise<TestHost> {
    const engine = await startEngine({ args });
    try {
      const config = asksEngine ? { engine: engine.dockerHost } : {};
      return new TestHost(engine, await startDaemon({ config }));
    } catch (error) {
      await engine.stop();
      throw error;
    }
  }

  /** Runs a docker command that has to succeed. @returns what it prints, without the last line break */
  async docker(...args: readonly string[]): Promise<string> {
    return outputOf(args, await this.engine.docker(...args));
  }

  /** Runs a docker command that has to fail. @returns what it says */
  async refused(...args: readonly string[]): Promise<string> {
    const result = await this.engine.docker(...args);
    expect(result.exitCode, `docker ${args.join(' ')}\n${result.stdout}`).not.to.equal(0);
    return result.stderr;
  }

  /** Runs a command in a new container of `busybox`; `options` are those of `docker run`. */
  run(options: readonly string[], ...command: readonly string[]): Promise<string> {
    return this.docker('run', '--network', 'host', ...options, 'busybox', ...command);
  }

  /** Starts a container that goes on until it is removed. `script` runs in it first, again and again with `loop`. */
  async startContainer(name: string, options: readonly string[], script = 'exec sleep 10000'): Promise<void> {
    await this.run(['--detach', '--name', name, ...options], 'sh', '-c', script);
  }

  /** Runs a shell script in a running container. */
  sh(container: string, script: string): Promise<string> {
    return this.docker('exec', container, 'sh', '-c', script);
  }

  /** Makes a volume of varve; `options` are those of `docker volume create`. */
  createVolume(name: string, ...options: readonly string[]): Promise<string> {
    return this.docker('volume', 'create', '--driver', this.daemon.driver, ...options, name);
  }

  /** Tries to, in vain. @returns what docker says */
  createRefused(name: string, ...options: readonly string[]): Promise<string> {
    return this.refused('volume', 'create', '--driver', this.daemon.driver, ...options, name);
  }

  /** What `docker volume inspect` shows. */
  async inspectVolume(name: string): Promise<DockerVolume> {
    const [volume] = JSON.parse(await this.docker('volume', 'inspect', name)) as DockerVolume[];
    if (volume === undefined) throw new Error(`docker volume inspect ${name} showed nothing`);
    return volume;
  }

  /** What varve knows of a volume. */
  async volume(name: string): Promise<VolumeView> {
    const found = (await this.volumes()).find(view => view.name === name);
    if (found === undefined) throw new Error(`varve has no volume ${name}`);
    return found;
  }

  volumes(): Promise<readonly VolumeView[]> {
    return volumesOf(this.daemon);
  }

  /** The names of the volumes of varve that the engine shows. */
  async listed(): Promise<readonly string[]> {
    const lines = await this.docker('volume', 'ls', '--format', '{{.Driver}} {{.Name}}');
    const ours = lines.split('\n').map(line => line.split(' '));
    return ours.flatMap(([driver, name = '']) => (driver === this.daemon.driver ? [name] : []));
  }

  /** Where the bytes of a volume are on this machine. */
  async dataPath(name: string): Promise<string> {
    return `${this.daemon.root}/pools/default/${(await this.volume(name)).number}/data`;
  }

  /** What a running container has mounted on a path. */
  async mountOf(container: string, path: string): Promise<MountEntry> {
    const pid = Number(await this.docker('inspect', '--format', '{{.State.Pid}}', container));
    const found = parseMountinfo(readMountinfo(pid)).findLast(({ mountPoint }) => mountPoint === path);
    if (found === undefined) throw new Error(`container ${container} has nothing mounted on ${path}`);
    return found;
  }

  /** What the pool holds besides its marker and its trash: a directory for each volume, drafts and removed ones. */
  onDisk(): readonly string[] {
    const names = readdirSync(`${this.daemon.root}/pools/default`);
    return names.filter(name => name !== 'pool.json' && name !== 'trash');
  }

  /** The mounts of varve in the namespace of this machine. */
  mounts(): readonly string[] {
    return mountsBelow(this.daemon.root);
  }

  /** The same, as the kernel's table shows them. */
  mountEntries(): readonly MountEntry[] {
    const root = `${this.daemon.root}/`;
    return parseMountinfo(readMountinfo('self')).filter(({ mountPoint }) => mountPoint.startsWith(root));
  }

  /** Removes every container, and every volume of varve; then nothing of them may be left. */
  async clear(): Promise<void> {
    this.daemon.faults({});
    const containers = lines(await this.docker('ps', '--all', '--quiet'));
    if (containers.length > 0) await this.docker('rm', '--force', '--volumes', ...containers);
    const volumes = (await this.volumes()).map(({ name }) => name);
    for (const name of volumes) await this.daemon.varve('volume', 'unprotect', name);
    if (volumes.length > 0) await this.docker('volume', 'rm', ...volumes);
    expect(await this.volumes()).to.deep.equal([]);
    expect(this.mounts()).to.deep.equal([]);
    await until('the removed volumes to leave the pool', 10_000, () => this.onDisk().length === 0);
  }

  async stop(): Promise<void> {
    await this.engine.stop();
    await this.daemon.dispose();
  }
}

/** As the engine's API has it. */
export interface DockerVolume {
  readonly Name: string;
  readonly Driver: string;
  readonly Mountpoint: string;
  readonly CreatedAt: string;
  readonly Scope: string;
  readonly Labels: Readonly<Record<string, string>> | null;
  readonly Options: Readonly<Record<string, string>> | null;
  readonly Status: Readonly<Record<string, unknown>>;
}

/** The volumes that a daemon has. */
export function volumesOf(daemon: TestDaemon): Promise<readonly VolumeView[]> {
  return getJson(daemon.adminSocket, '/v1/volumes') as Promise<readonly VolumeView[]>;
}

/** Waits until a plugin call has come once more than `before` says. */
export async function untilCalled(
  daemon: TestDaemon,
  method: string,
  before: Readonly<Record<string, number>>,
): Promise<void> {
  const count = before[method] ?? 0;
  await until(`another call of ${method}`, 30_000, () => (daemon.calls()[method] ?? 0) > count);
}

/** The plugin calls since `before`; those that did not come are not in it. */
export function callsSince(
  daemon: TestDaemon,
  before: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const now = Object.entries(daemon.calls());
  return Object.fromEntries(
    now
      .map(([method, count]) => [method, count - (before[method] ?? 0)] as const)
      .filter(([, count]) => count > 0),
  );
}

function lines(text: string): readonly string[] {
  return text.split('\n').filter(line => line !== '');
}

function outputOf(args: readonly string[], { stdout, stderr, exitCode }: Result): string {
  expect(exitCode, `docker ${args.join(' ')}\n${stderr}`).to.equal(0);
  return stdout.trimEnd();
}

function getJson(socketPath: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, timeout: 30_000 }, response => {
      let text = '';
      response.on('data', (part: Buffer) => {
        text += part.toString();
      });
      response.on('end', () => resolve(JSON.parse(text)));
      response.on('error', reject);
    });
    call.on('timeout', () => call.destroy(new Error(`${path} was not answered within 30 s`)));
    call.on('error', reject);
    call.end();
  });
}
