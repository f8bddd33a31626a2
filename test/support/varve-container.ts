import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { mountsBelow } from '../../scripts/lib/mounts.ts';
import { varveScript } from '../../scripts/lib/paths.ts';
import { must, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import { docker } from './containers.ts';
import { environment, isUp } from './daemon.ts';
import type { TestEngine } from './engine.ts';
import { unmountBelow } from './unmount-below.ts';

/** varve in a container of the engine that it serves, as docs/install.md says, with a driver name of its own. */
export class VarveContainer {
  readonly name = 'varve';
  readonly driver = `vtc${process.pid}`;
  readonly root: string;
  readonly run: string;
  readonly #engine: TestEngine;
  readonly #image: string;
  readonly #directory: string;

  private constructor(engine: TestEngine, image: string, directory: string) {
    this.#engine = engine;
    this.#image = image;
    this.#directory = directory;
    this.root = join(directory, 'root');
    this.run = join(directory, 'run');
  }

  /** Its directories and configuration; nothing runs yet. */
  static async prepare(engine: TestEngine, image: string): Promise<VarveContainer> {
    const container = new VarveContainer(engine, image, await mkdtemp(join(tmpdir(), 'varve-container-')));
    for (const path of [container.root, container.run]) mkdirSync(path);
    const drivers = { varve: { socket: '/run/varve/unused.sock' }, [container.driver]: {} };
    const config = { root: container.root, drivers, intervals: { reconcileSeconds: 1 } };
    writeFileSync(container.#configFile, stringify(config));
    return container;
  }

  get #configFile(): string {
    return join(this.#directory, 'config.yaml');
  }

  /** Makes the root a shared mount, which it is wherever systemd runs. */
  async share(): Promise<void> {
    await must('mount', ['--bind', this.root, this.root]);
    await must('mount', ['--make-shared', this.root]);
  }

  /** The words of `docker run`, but for those that a test leaves out to see what happens. */
  words({ pid = ['--pid', 'host'], propagation = ':rshared' } = {}): string[] {
    return [
      ...['run', '--detach', '--name', this.name, '--restart', 'always', '--stop-timeout', '15'],
      ...['--network', 'none', '--cap-add', 'SYS_ADMIN', '--cap-add', 'LINUX_IMMUTABLE', ...pid],
      ...['--security-opt', 'apparmor=unconfined', '--security-opt', 'label=disable'],
      ...['--volume', `${this.root}:${this.root}${propagation}`],
      ...['--volume', `${this.run}:/run/varve`, '--volume', '/run/docker/plugins:/run/docker/plugins'],
      ...['--volume', `${this.#engine.socket}:/var/run/docker.sock`],
      ...['--volume', `${this.#configFile}:/etc/varve/config.yaml:ro`, this.#image],
    ];
  }

  async start(words: readonly string[] = this.words()): Promise<void> {
    await docker(this.#engine, ...words);
    await this.untilUp();
  }

  async untilUp(): Promise<void> {
    await until('varve to answer', 30_000, () => isUp(join(this.run, 'varve.sock')));
  }

  /** The `varve` command of this machine against it; `exitCode` tells whether it was refused. */
  varve(...args: readonly string[]): ReturnType<typeof run> {
    const env = { ...environment, VARVE_SOCKET: join(this.run, 'varve.sock') };
    return run(process.execPath, [varveScript, ...args], { env, timeoutMs: 60_000 });
  }

  async volume(name: string): Promise<VolumeView> {
    const { stdout, stderr } = await this.varve('volume', 'inspect', name);
    const [view] = JSON.parse(stdout) as readonly VolumeView[];
    if (view === undefined) throw new Error(stderr);
    return view;
  }

  async dataPath(name: string): Promise<string> {
    return `${this.root}/pools/default/${(await this.volume(name)).number}/data`;
  }

  /** Where volumes are mounted on this machine. */
  mounts(): readonly string[] {
    return mountsBelow(join(this.root, 'mnt'));
  }

  /** Leaves nothing; the engine is gone, or has removed its containers. */
  async dispose(): Promise<void> {
    const socket = `/run/docker/plugins/${this.driver}.sock`;
    for (const path of [socket, `${socket.slice(0, -1)}~`]) rmSync(path, { force: true });
    await unmountBelow(this.#directory);
    await rm(this.#directory, { recursive: true, force: true });
  }
}
