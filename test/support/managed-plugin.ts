import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { varveScript } from '../../scripts/lib/paths.ts';
import { end } from '../../scripts/lib/proc.ts';
import { must, type Result, run } from '../../scripts/lib/process.ts';
import { startRegistry } from '../../scripts/lib/registry.ts';
import type { MountEntry } from '../../src/core/mount.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import { isWithin, parseMountinfo, readMountinfo } from '../../src/host/linux/mountinfo.ts';
import { Cleanup } from '../../src/lib/cleanup.ts';
import { docker } from './containers.ts';
import { environment } from './daemon.ts';
import { startEngine, type TestEngine } from './engine.ts';
import { freePort } from './free-port.ts';
import { pluginScript } from './plugin-script.ts';
import { unmountBelow } from './unmount-below.ts';

/** A container host that gets varve as a managed plugin, from a registry of its own. */
export class PluginHost {
  readonly engine: TestEngine;
  /** What the engine calls the plugin. */
  readonly driver = 'vmp';
  /** Where the plugin makes `varve/`; a mount of its own, shared, as `/var/lib` is where systemd runs. */
  readonly data: string;
  readonly #directory: string;
  readonly #registry: string;
  readonly #cleanup: Cleanup;
  /** The directories of sockets of every plugin that was installed. */
  readonly #socketDirectories = new Set<string>();

  private constructor(engine: TestEngine, directory: string, registry: string, cleanup: Cleanup) {
    this.engine = engine;
    this.data = join(directory, 'data');
    this.#directory = directory;
    this.#registry = registry;
    this.#cleanup = cleanup;
    // Undone from the last to the first: without its engine nobody serves a socket any more.
    cleanup.defer(() => this.#removeSockets());
    cleanup.defer(() => engine.stop());
    cleanup.defer(() => this.#removePlugin());
    cleanup.defer(() => this.#removeContainers());
  }

  /** @param args further arguments of dockerd; those that are there when it restarts hold then */
  static async start(args: readonly string[]): Promise<PluginHost> {
    const cleanup = new Cleanup();
    try {
      const directory = await mkdtemp(join(tmpdir(), 'varve-plugin-'));
      cleanup.defer(() => rm(directory, { recursive: true, force: true }));
      cleanup.defer(() => unmountBelow(directory));
      const data = join(directory, 'data');
      mkdirSync(data);
      await must('mount', ['--bind', data, data]);
      await must('mount', ['--make-shared', data]);
      const registry = `127.0.0.1:${await freePort()}`;
      const registryProcess = await startRegistry(join(directory, 'registry'), registry);
      cleanup.defer(async () => void (await end(registryProcess, 5_000)));
      return new PluginHost(await startEngine({ args }), directory, registry, cleanup);
    } catch (error) {
      // What fails here follows from what has failed before.
      await cleanup.close().catch(() => undefined);
      throw error;
    }
  }

  push(tag: string): Promise<Result> {
    return pluginScript(this.engine, 'push', '--registry', this.#registry, '--tag', tag);
  }

  /** Gives what was pushed another tag as well (OCI distribution API, manifests). */
  async tag(from: string, to: string): Promise<void> {
    const manifests = `http://${this.#registry}/v2/varve/manifests`;
    const type = 'application/vnd.docker.distribution.manifest.v2+json';
    const manifest = await fetch(`${manifests}/${from}`, { headers: { accept: type } });
    const headers = { 'content-type': type };
    const put = await fetch(`${manifests}/${to}`, { method: 'PUT', headers, body: await manifest.text() });
    expect(put.status, await put.text()).to.equal(201);
  }

  /** What a registry and an engine call the plugin. */
  reference(tag: string): string {
    return `${this.#registry}/varve:${tag}`;
  }

  /** Installs and enables it, as docs/install.md says. */
  async install(tag: string, ...settings: readonly string[]): Promise<void> {
    const options = ['--alias', this.driver, '--grant-all-permissions'];
    const all = [`data.source=${this.data}`, ...settings];
    try {
      await docker(this.engine, 'plugin', 'install', ...options, this.reference(tag), ...all);
    } finally {
      // It is there also when it cannot be enabled, and so is the directory of its socket.
      await this.#rememberSocket();
    }
  }

  /** Removes the plugin, also while containers use its volumes. */
  async remove(): Promise<void> {
    await docker(this.engine, 'plugin', 'disable', '--force', this.driver);
    await docker(this.engine, 'plugin', 'rm', '--force', this.driver);
  }

  id(): Promise<string> {
    return docker(this.engine, 'plugin', 'inspect', '--format', '{{.Id}}', this.driver);
  }

  /** The process of the plugin, whose pid is in its admin status. */
  async pid(): Promise<number> {
    const { stdout } = await this.varve('status');
    return Number(/^Process\s+(\d+)/m.exec(stdout)?.[1]);
  }

  /** The `varve` command of this machine, which finds the plugin by its root. */
  varve(...args: readonly string[]): Promise<Result> {
    const env = {
      ...environment,
      VARVE_ROOT: join(this.data, 'varve'),
      VARVE_RUN: join(this.#directory, 'no'),
    };
    return run(process.execPath, [varveScript, ...args], { env, timeoutMs: 60_000 });
  }

  async volume(name: string): Promise<VolumeView> {
    const { stdout, stderr } = await this.varve('volume', 'inspect', name);
    expect(stdout, stderr).not.to.equal('');
    return (JSON.parse(stdout) as readonly VolumeView[])[0] as VolumeView;
  }

  /** Where the bytes of a volume are on this machine. */
  async dataPath(name: string): Promise<string> {
    return join(this.data, 'varve/pools/default', String((await this.volume(name)).number), 'data');
  }

  /** The mounts of volumes in the namespace of this machine. */
  volumeMounts(): readonly MountEntry[] {
    const plugins = join(this.engine.dataRoot, 'plugins');
    const below = parseMountinfo(readMountinfo('self')).filter(({ mountPoint }) =>
      isWithin(mountPoint, plugins),
    );
    return below.filter(({ mountPoint }) => !mountPoint.endsWith('/propagated-mount'));
  }

  /** What the plugin has written to its log since the start of the engine, which keeps it with its own. */
  log(): string {
    const lines = readFileSync(this.engine.log, 'utf8').split('\n');
    return lines.filter(line => / plugin=[0-9a-f]{64}$/.test(line)).join('\n');
  }

  /** Ends everything and leaves nothing, also when a step of it fails. @throws AggregateError */
  stop(): Promise<void> {
    return this.#cleanup.close();
  }

  async #rememberSocket(): Promise<void> {
    const words = ['plugin', 'inspect', '--format', '{{.Id}}', this.driver];
    const { exitCode, stdout } = await this.engine.docker(...words);
    if (exitCode === 0) this.#socketDirectories.add(`/run/docker/plugins/${stdout.trim()}`);
  }

  async #removeContainers(): Promise<void> {
    const { stdout } = await this.engine.docker('ps', '--all', '--quiet');
    const containers = stdout.split('\n').filter(Boolean);
    if (containers.length > 0) await this.engine.docker('rm', '--force', ...containers);
  }

  async #removePlugin(): Promise<void> {
    await this.engine.docker('plugin', 'rm', '--force', this.driver);
  }

  #removeSockets(): void {
    for (const path of this.#socketDirectories) rmSync(path, { recursive: true, force: true });
  }
}
