import type Dockerode from 'dockerode';
import type { EngineStorage } from '../../core/engine-setup/host.ts';
import type { ContainerEngine } from '../../core/layers/container-limits.ts';
import type { Engine, EngineContainer, EngineVolume } from '../../core/ports.ts';
import { InvalidArgument, messageOf, Unavailable } from '../../errors/errors.ts';
import { errorCode } from '../../errors/from-errno.ts';

/** A container or an image, with what its storage driver tells of its topmost layer. */
export interface EngineGraph {
  readonly kind: 'container' | 'image';
  readonly names: readonly string[];
  readonly data: Readonly<Record<string, unknown>> | null;
}

interface DockerInfo {
  readonly ServerVersion: string;
  readonly Driver: string;
  readonly DriverStatus?: readonly (readonly [string, string])[] | null;
  readonly Containerd?: { readonly Address?: string };
}

/** The Docker Engine API, at an address such as `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`. */
export class DockerEngine implements Engine, ContainerEngine {
  readonly #address: string;
  readonly #options: Dockerode.DockerOptions;
  readonly #deadline: number;

  /** @param deadline milliseconds for each question. @throws InvalidArgument */
  constructor(address: string, deadline = 10_000) {
    this.#address = address;
    this.#deadline = deadline;
    this.#options = parseAddress(address);
  }

  async volumes(driver: string): Promise<readonly EngineVolume[]> {
    const [volumes, containers] = await this.#ask(async (docker, abortSignal) => [
      await docker.listVolumes({ filters: { driver: [driver] }, abortSignal }),
      await docker.listContainers({ all: true, abortSignal }),
    ]);
    const mounting = byVolumeName(containers);
    // The engine sends null where there is nothing.
    return (volumes.Volumes ?? []).map(({ Name, Driver, Labels }) => ({
      name: Name,
      labels: Labels ?? {},
      containers: [...(mounting.get(Name) ?? [])]
        .filter(container => mountsVolume(container, Name, Driver))
        .map(toContainer),
    }));
  }

  async version(): Promise<string> {
    const version = await this.#ask(docker => docker.version());
    return `Docker Engine ${version.Version}`;
  }

  /** What it stores images and containers on. @throws Unavailable */
  async storage(): Promise<EngineStorage> {
    const info = (await this.#ask(docker => docker.info())) as DockerInfo;
    const status = Object.fromEntries(info.DriverStatus ?? []);
    return {
      version: info.ServerVersion,
      driver: info.Driver,
      // moby, daemon/containerd/service.go: only images kept in containerd have it.
      isSnapshotter: status['driver-type'] === 'io.containerd.snapshotter.v1',
      containerd: info.Containerd?.Address,
    };
  }

  /** Names of all containers by their ids. @throws Unavailable */
  async containerNames(): Promise<ReadonlyMap<string, string>> {
    const containers = await this.#ask((docker, abortSignal) =>
      docker.listContainers({ all: true, abortSignal }),
    );
    return new Map(containers.map(container => [container.Id, toContainer(container).name]));
  }

  /** What each container and image says of its storage (`docker inspect`, GraphDriver). @throws Unavailable */
  async graphs(): Promise<readonly EngineGraph[]> {
    return this.#ask(async (docker, abortSignal) => {
      const [containers, images] = await Promise.all([
        docker.listContainers({ all: true, abortSignal }),
        docker.listImages({ abortSignal }),
      ]);
      const found: EngineGraph[] = [];
      for (const container of containers) {
        const { GraphDriver } = await docker.getContainer(container.Id).inspect({ abortSignal });
        found.push({ kind: 'container', names: [toContainer(container).name], data: GraphDriver.Data });
      }
      for (const { Id, RepoTags } of images) {
        const { GraphDriver } = await docker.getImage(Id).inspect();
        const tags = (RepoTags ?? []).filter(tag => tag !== '<none>:<none>');
        const names = tags.length > 0 ? tags : [Id.replace(/^sha256:/, '').slice(0, 12)];
        found.push({ kind: 'image', names, data: GraphDriver.Data });
      }
      return found;
    });
  }

  /** As {@link ContainerEngine}. @throws Unavailable */
  storageOptions(container: string): Promise<unknown> {
    return this.#ask(async (docker, abortSignal) => {
      try {
        const { HostConfig } = await docker.getContainer(container).inspect({ abortSignal });
        return HostConfig.StorageOpt ?? {};
      } catch (error) {
        if ((error as { statusCode?: unknown }).statusCode === 404) return undefined;
        throw error;
      }
    });
  }

  async #ask<const T>(question: (docker: Dockerode, signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      // Loaded when it is needed: it takes a third of a second.
      const { default: Docker } = await import('dockerode');
      return await question(
        new Docker({ ...this.#options, timeout: this.#deadline }),
        AbortSignal.timeout(this.#deadline),
      );
    } catch (error) {
      const reason = messageOf(error) || errorCode(error);
      const text = `the engine at ${this.#address} does not answer: ${reason}; start it, or correct its address`;
      throw new Unavailable(text, { cause: error });
    }
  }
}

function parseAddress(address: string): Dockerode.DockerOptions {
  if (address.startsWith('unix:///')) return { socketPath: address.slice('unix://'.length) };
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol === 'tcp:' && url.hostname !== '') {
    return { protocol: 'http', host: url.hostname, port: Number(url.port || 2375) };
  }
  throw new InvalidArgument(
    `the engine address "${address}" is not understood; use unix:///PATH or tcp://HOST:PORT`,
  );
}

/** The containers with a mount of each name. */
function byVolumeName(containers: readonly Dockerode.ContainerInfo[]) {
  const found = new Map<string, Set<Dockerode.ContainerInfo>>();
  for (const container of containers) {
    for (const { Name = '' } of container.Mounts) {
      const others = found.get(Name);
      if (others === undefined) found.set(Name, new Set([container]));
      else others.add(container);
    }
  }
  return found;
}

function mountsVolume(container: Dockerode.ContainerInfo, name: string, driver: string): boolean {
  return container.Mounts.some(
    mount => mount.Type === 'volume' && mount.Name === name && (mount.Driver ?? driver) === driver,
  );
}

function toContainer({ Id, Names, State }: Dockerode.ContainerInfo): EngineContainer {
  const running = ['running', 'paused', 'restarting'].includes(State);
  return { id: Id, name: Names[0]?.replace(/^\//, '') ?? Id.slice(0, 12), running };
}
