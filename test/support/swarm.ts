import { existsSync } from 'node:fs';
import { must } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { TestHost } from './host.ts';

/** One attempt of Swarm to run a container of a service. */
export interface Task {
  readonly id: string;
  /** With the time since, as in `Running 2 seconds ago`. */
  readonly state: string;
  readonly error: string;
}

/** Swarm makes a bridge when there is none, under a name that all engines of the machine share. */
const bridge = `vt${process.pid}`;

/** A Swarm of one node on a test's engine, which listens on the loopback address alone. */
export class TestSwarm {
  readonly #host: TestHost;
  /** By its id: Swarm would ask a registry for any other name, even for one that the engine has. */
  readonly #image: string;

  private constructor(host: TestHost, image: string) {
    this.#host = host;
    this.#image = image;
  }

  static async start(host: TestHost): Promise<TestSwarm> {
    const options = ['--driver', 'bridge', '--opt', `com.docker.network.bridge.name=${bridge}`];
    try {
      await host.docker('network', 'create', ...options, 'docker_gwbridge');
      await host.docker('swarm', 'init', '--advertise-addr', '127.0.0.1', '--listen-addr', '127.0.0.1:0');
      return new TestSwarm(host, await host.docker('image', 'inspect', '--format', '{{.Id}}', 'busybox'));
    } catch (error) {
      // What fails here follows from what has failed before.
      await leave(host).catch(() => undefined);
      throw error;
    }
  }

  /** Creates a service with one volume of varve on `/data`, and does not wait for it. */
  async createService(
    name: string,
    volume: string,
    volumeOptions: readonly string[],
    script: string,
  ): Promise<void> {
    const options = volumeOptions.map(option => `,volume-opt=${option}`).join('');
    const mount = `type=volume,source=${volume},target=/data,volume-driver=${this.#host.daemon.driver}${options}`;
    const words = ['--detach', '--name', name, '--network', 'host', '--no-resolve-image', '--mount', mount];
    const quick = ['--restart-delay', '1s', '--stop-grace-period', '0s'];
    await this.#host.docker('service', 'create', ...words, ...quick, this.#image, 'sh', '-c', script);
  }

  /** The tasks of a service, the newest first. */
  async tasks(service: string): Promise<readonly Task[]> {
    const format = '{{.ID}}\t{{.CurrentState}}\t{{.Error}}';
    const text = await this.#host.docker('service', 'ps', '--no-trunc', '--format', format, service);
    return text.split('\n').map(line => {
      const [id = '', state = '', error = ''] = line.split('\t');
      return { id, state, error };
    });
  }

  /** Waits for a task that runs and is not one of these. @returns its container and its id */
  untilRunning(
    service: string,
    besides: readonly string[] = [],
  ): Promise<{ readonly task: string; readonly container: string }> {
    return until(`a new task of ${service} to run`, 60_000, async () => {
      const tasks = await this.tasks(service);
      const found = tasks.find(({ id, state }) => state.startsWith('Running') && !besides.includes(id));
      if (found === undefined) return undefined;
      const format = '{{.Status.ContainerStatus.ContainerID}}';
      return {
        task: found.id,
        container: await this.#host.docker('inspect', '--type', 'task', '--format', format, found.id),
      };
    });
  }

  /** Removes a service, and waits for its containers to go. */
  async removeService(name: string): Promise<void> {
    await this.#host.docker('service', 'rm', name);
    const filter = `label=com.docker.swarm.service.name=${name}`;
    await until(`the containers of ${name} to go`, 30_000, async () => {
      return (await this.#host.docker('ps', '--all', '--quiet', '--filter', filter)) === '';
    });
  }

  /** Ends all services, and takes the bridge of this machine away. */
  leave(): Promise<void> {
    return leave(this.#host);
  }
}

async function leave(host: TestHost): Promise<void> {
  try {
    await host.docker('swarm', 'leave', '--force');
    await host.docker('network', 'rm', 'docker_gwbridge');
  } finally {
    // It would outlive the engine that has not let it go.
    if (existsSync(`/sys/class/net/${bridge}`)) await must('ip', ['link', 'delete', bridge]);
  }
}
