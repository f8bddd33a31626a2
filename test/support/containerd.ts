import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ContainerdOptions,
  containerdFiles,
  launchContainerd,
  programIn,
} from '../../scripts/lib/containerd.ts';
import { end, kill, type ProcessId } from '../../scripts/lib/proc.ts';
import { must, type Result, run } from '../../scripts/lib/process.ts';
import { removeEngine } from '../../scripts/lib/remove-engine.ts';
import { Internal } from '../../src/errors/errors.ts';
import { type Client, ContainerdClient } from '../../src/host/linux/containerd-client.ts';
import { type Info, Snapshots } from '../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Mount } from '../../src/wire/gen/containerd/types/mount_pb.ts';
import { environment } from './daemon.ts';
import { selectedBin } from './engine.ts';
import type { ImageArchive } from './image-archive.ts';

const minutes = 60_000;

/** What keeps a snapshot that nothing refers to from the garbage collector (containerd, docs/garbage-collection.md). */
export const keptLabels = { 'containerd.io/gc.root': '2026-01-01T00:00:00Z' };

export type TestContainerdOptions = Partial<ContainerdOptions>;

/** A containerd of the selected engine for one test: real, private, with the snapshotter `overlayfs` and maybe `varve`. */
export class TestContainerd {
  readonly #options: ContainerdOptions;
  #process: ProcessId;

  private constructor(options: ContainerdOptions, process: ProcessId) {
    this.#options = options;
    this.#process = process;
  }

  /** A test that starts one calls `stop` whatever happens. @param options `directory` for one that others know before */
  static async start(options: TestContainerdOptions = {}): Promise<TestContainerd> {
    const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'varve-ctrd-')));
    const all = { binDir: selectedBin(), ...options, directory };
    try {
      return new TestContainerd(all, await launchContainerd(all));
    } catch (error) {
      await removeEngine(directory);
      throw error;
    }
  }

  /** The path of its socket. */
  get socket(): string {
    return containerdFiles(this.#options.directory).socket;
  }

  /** The directory of its content store, and of the snapshots of `overlayfs`. */
  get root(): string {
    return containerdFiles(this.#options.directory).root;
  }

  /** The file that it logs to. */
  get log(): string {
    return containerdFiles(this.#options.directory).log;
  }

  /** As `1.6` or `2.1`. */
  async version(): Promise<string> {
    const { stdout } = await must(programIn(this.#options.binDir, 'containerd'), ['--version']);
    return /\s(\d+\.\d+)\./.exec(stdout)?.[1] ?? stdout;
  }

  /** Runs a `ctr` command that has to succeed, in namespace `default` unless it says otherwise. @returns what it prints, without the last line break */
  async ctr(...words: readonly string[]): Promise<string> {
    const { program, args, options } = this.#command(words);
    return (await must(program, args, options)).stdout.trimEnd();
  }

  /** Like {@link ctr}, with what it prints, to the byte, in a file. */
  async ctrTo(file: string, ...words: readonly string[]): Promise<void> {
    const { program, args, options } = this.#command(words);
    await must('sh', ['-c', 'exec "$@" > "$0"', file, program, ...args], options);
  }

  /** Runs a `ctr` command, whatever it answers. */
  tryCtr(...words: readonly string[]): Promise<Result> {
    const { program, args, options } = this.#command(words);
    return run(program, args, options);
  }

  /** Shows an unpacked image, read-only, for the time of `look`. */
  async mounting<T>(
    { chainId }: Pick<ImageArchive, 'chainId'>,
    look: (path: string) => T | Promise<T>,
    snapshotter = 'overlayfs',
  ): Promise<T> {
    // `ctr images mount` of 1.6 takes the layers of overlayfs, whatever snapshotter it is given.
    const [point, key] = [join(this.#options.directory, 'look'), 'a look at an image'];
    await mkdir(point, { recursive: true });
    return this.#withSnapshots(async snapshots => {
      const { mounts } = await snapshots.view({ snapshotter, key, parent: chainId, labels: keptLabels });
      const [{ type, source, options }] = mounts as [Mount];
      await must('mount', ['-t', type, '-o', options.join(','), source, point]);
      try {
        return await look(point);
      } finally {
        await must('umount', [point]);
        await snapshots.remove({ snapshotter, key });
      }
    });
  }

  /** All snapshots of a snapshotter in namespace `default`, as containerd shows them to its clients. */
  infos(snapshotter: string): Promise<readonly Info[]> {
    return this.#withSnapshots(async snapshots => {
      const found: Info[] = [];
      for await (const { info } of snapshots.list({ snapshotter })) found.push(...info);
      return found;
    });
  }

  async #withSnapshots<T>(act: (snapshots: Client<typeof Snapshots>) => Promise<T>): Promise<T> {
    const client = new ContainerdClient(this.socket);
    try {
      return await act(client.service(Snapshots, 'default'));
    } finally {
      client.close();
    }
  }

  /** Runs a shell script in a new container, which is gone afterwards. @returns what it printed @throws Internal */
  async run(snapshotter: string, image: string, id: string, script: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.tryRun(snapshotter, image, id, script);
    if (exitCode === 0) return stdout.trimEnd();
    throw new Internal(`${script} in ${image} ended with exit code ${String(exitCode)}\n${stdout}${stderr}`);
  }

  /** Like {@link run}, whatever it answers; `stdout` is all that the container printed, `stderr` what `ctr` did. */
  async tryRun(snapshotter: string, image: string, id: string, script: string): Promise<Result> {
    const said = join(this.#options.directory, `said-${id}`);
    // A file, since `ctr` before 1.6.22 may close its pipes before it has read them (containerd, pull request 8643);
    // and no control group of its own, whose parent would stay.
    const options = ['--rm', '--snapshotter', snapshotter, '--cgroup', '', '--log-uri', `file://${said}`];
    try {
      const ran = await this.tryCtr('run', ...options, image, id, '/bin/sh', '-c', script);
      return { ...ran, stdout: existsSync(said) ? await readFile(said, 'utf8') : '' };
    } finally {
      await rm(said, { force: true });
    }
  }

  /** Ends it as a crash does; its containers live on. */
  async kill9(): Promise<void> {
    await kill(this.#process);
  }

  /** Ends it with SIGTERM unless it is dead, and starts it again on what it has. */
  async restart(): Promise<void> {
    await end(this.#process, 20_000);
    this.#process = await launchContainerd(this.#options);
  }

  /** Ends it with all of its containers, and leaves nothing. */
  async stop(): Promise<void> {
    await removeEngine(this.#options.directory);
  }

  #command(words: readonly string[]) {
    const { binDir } = this.#options;
    // The client starts programs of its own to decompress.
    const env = {
      ...environment,
      PATH: [binDir, process.env['PATH']].filter(Boolean).join(':'),
      LC_ALL: 'C',
    };
    return {
      program: programIn(binDir, 'ctr'),
      args: ['--address', this.socket, ...words],
      options: { env, timeoutMs: 5 * minutes },
    };
  }
}
