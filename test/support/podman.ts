import { mkdir, mkdtemp, readdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { busyboxTar } from '../../scripts/lib/busybox.ts';
import { unmountBelow } from '../../scripts/lib/mounts.ts';
import { allPids, commandLine, identify, kill } from '../../scripts/lib/proc.ts';
import { type Result, run } from '../../scripts/lib/process.ts';

/** A Podman for one test: the real program, with storage of its own and the image `busybox`. There is no daemon. */
export class TestPodman {
  readonly #directory: string;
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#environment = {
      ...process.env,
      LC_ALL: 'C',
      CONTAINERS_CONF: join(directory, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(directory, 'storage.conf'),
    };
  }

  /** @param plugins the socket of each volume driver, by the name of the driver */
  static async start(plugins: Readonly<Record<string, string>>): Promise<TestPodman> {
    const directory = await mkdtemp(join(tmpdir(), 'varve-podman-'));
    const podman = new TestPodman(directory);
    try {
      await mkdir(join(directory, 'networks'));
      await writeFile(join(directory, 'containers.conf'), containersConf(directory, plugins));
      await writeFile(join(directory, 'storage.conf'), storageConf(directory));
      await podman.must('import', '--quiet', await busyboxTar(), 'busybox');
      return podman;
    } catch (error) {
      await podman.stop();
      throw error;
    }
  }

  /** Runs a podman command, whatever it answers; at most a minute. */
  run(...args: readonly string[]): Promise<Result> {
    const paths = ['root', 'runroot', 'tmpdir'].map(name => `--${name}=${join(this.#directory, name)}`);
    return run('podman', [...paths, ...args], { env: this.#environment, timeoutMs: 60_000 });
  }

  /** Runs a podman command that has to succeed. @returns what it prints, without the last line break */
  async must(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...args);
    expect(exitCode, `podman ${args.join(' ')}\n${stderr}`).to.equal(0);
    return stdout.trimEnd();
  }

  /** Runs a podman command that has to fail. @returns what it says */
  async refused(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...args);
    expect(exitCode, `podman ${args.join(' ')}\n${stdout}`).not.to.equal(0);
    return stderr.trim();
  }

  /** Runs a shell script in a new container, which is gone afterwards. */
  inContainer(options: readonly string[], script: string, image = 'busybox'): Promise<string> {
    return this.must('run', '--rm', '--network', 'none', ...options, image, 'sh', '-c', script);
  }

  /** Starts a container that goes on until it is removed. */
  startContainer(name: string, options: readonly string[], script = 'exec sleep 10000'): Promise<string> {
    const words = ['run', '--detach', '--name', name, '--network', 'none', ...options];
    return this.must(...words, 'busybox', 'sh', '-c', script);
  }

  removeContainers(): Promise<string> {
    return this.must('rm', '--all', '--force', '--time', '0', '--volumes');
  }

  /** Ends everything and leaves nothing. */
  async stop(): Promise<void> {
    await this.run('rm', '--all', '--force', '--time', '0', '--volumes');
    for (const pid of allPids()) {
      const isOurs = commandLine(pid).some(word => word.startsWith(`${this.#directory}/`));
      const id = isOurs ? identify(pid) : undefined;
      if (id !== undefined) await kill(id);
    }
    await removeControlGroups();
    await unmountBelow(this.#directory);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Without the limits podman raises them, and without file locks it shares a table of locks with the whole host. */
function containersConf(directory: string, plugins: Readonly<Record<string, string>>): string {
  return [
    '[containers]',
    'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]',
    '[network]',
    `network_config_dir = "${join(directory, 'networks')}"`,
    '[engine]',
    'cgroup_manager = "cgroupfs"',
    'events_logger = "file"',
    'lock_type = "file"',
    '[engine.volume_plugins]',
    ...Object.entries(plugins).map(([name, socket]) => `${name} = "${socket}"`),
    '',
  ].join('\n');
}

function storageConf(directory: string): string {
  const [root, runroot] = ['root', 'runroot'].map(name => join(directory, name));
  return `[storage]\ndriver = "overlay"\ngraphroot = "${root}"\nrunroot = "${runroot}"\n`;
}

/** The groups that podman makes for all its containers: `libpod_parent` in each hierarchy, when they are empty. */
async function removeControlGroups(): Promise<void> {
  const top = '/sys/fs/cgroup';
  for (const hierarchy of [top, ...(await readdir(top)).map(name => join(top, name))]) {
    const parent = join(hierarchy, 'libpod_parent');
    for (const group of [join(parent, 'conmon'), parent]) await rmdir(group).catch(() => {});
  }
}
