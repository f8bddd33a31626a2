import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { cacheDirectory } from '../../scripts/lib/paths.ts';
import { type Result, run } from '../../scripts/lib/process.ts';
import { fetchPackages } from '../../scripts/lib/suite-packages.ts';
import type { TestHost } from './host.ts';

/** The file that users copy. */
const example = new URL('../../docs/examples/compose.yaml', import.meta.url);

/** What a test needs besides: no network, and a container that stays and ends at once. */
const forTests = {
  services: { db: { network_mode: 'host', command: 'sleep 10000', stop_grace_period: '0s' } },
};

/** The programs by their major version: Debian 12's own, and that of Debian 13, which is unpacked beside the system. */
export const composePrograms = {
  v1: async () => '/usr/bin/docker-compose',
  v2: async () => {
    const target = join(cacheDirectory, 'compose');
    const program = join(target, 'bin/docker-compose');
    if (!existsSync(program)) await fetchPackages('trixie', ['docker-compose'], target);
    return program;
  },
};

/** The example as a project, with `busybox` as its image. The name of the project is that of its directory. */
export class ComposeProject {
  readonly #host: TestHost;
  readonly #program: string;
  readonly #directory: string;

  private constructor(host: TestHost, program: string, directory: string) {
    this.#host = host;
    this.#program = program;
    this.#directory = directory;
  }

  static async make(host: TestHost, program: string): Promise<ComposeProject> {
    const directory = join(host.daemon.directory, 'shop');
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, 'tests.json'), JSON.stringify(forTests));
    const project = new ComposeProject(host, program, directory);
    await project.edit();
    return project;
  }

  /** Writes the example anew, with one text of it replaced by another. */
  async edit(from = '', to = ''): Promise<void> {
    const text = await readFile(example, 'utf8');
    expect(text).to.include(from);
    const ours = text.replace(from, to).replace('image: postgres:17', 'image: busybox');
    const named = ours.replaceAll('driver: varve', `driver: ${this.#host.daemon.driver}`);
    await writeFile(join(this.#directory, 'compose.yaml'), named);
  }

  /** Runs a compose command, whatever it answers. */
  run(...args: readonly string[]): Promise<Result> {
    const env = { ...process.env, DOCKER_HOST: this.#host.engine.dockerHost, DOCKER_CONFIG: this.#directory };
    const files = ['--file', 'compose.yaml', '--file', 'tests.json'];
    return run(this.#program, [...files, ...args], { cwd: this.#directory, env, timeoutMs: 60_000 });
  }

  /** Runs a compose command that has to succeed. @returns what it prints, without the last line break */
  async must(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...args);
    expect(exitCode, `compose ${args.join(' ')}\n${stderr}`).to.equal(0);
    return stdout.trimEnd();
  }

  /** Runs a compose command that has to fail. @returns what it says, on one line */
  async refused(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...args);
    expect(exitCode, `compose ${args.join(' ')}\n${stdout}`).not.to.equal(0);
    return stderr.replaceAll(/\s+/g, ' ');
  }

  /** Runs a shell script in the container of the service. */
  sh(script: string): Promise<string> {
    return this.must('exec', '-T', 'db', 'sh', '-c', script);
  }
}
