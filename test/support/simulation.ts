import { AssertionError } from 'chai';
import { type MountId, parseMountId, parseVolumeName } from '../../src/core/names.ts';
import { graceMs } from '../../src/core/volumes/consumers.ts';
import { FailedPrecondition, Unavailable } from '../../src/errors/errors.ts';
import { type Daemon, Host, isMounted, runContainer } from './world.ts';

/** One thing that happens on a host. `c` numbers a container: 0 to 2 are dockerd's, 3 is podman's. */
export type Event =
  /** Mount for a container; `firstUse`: an image directory is copied into the volume first. */
  | { readonly type: 'start'; readonly c: number; readonly firstUse?: boolean }
  /** The process of a container that was started begins to run. */
  | { readonly type: 'run'; readonly c: number }
  /** The container ends, or was started and could not run; Unmount. */
  | { readonly type: 'stop'; readonly c: number }
  | { readonly type: 'cp-begin'; readonly c: number }
  | { readonly type: 'cp-end'; readonly c: number }
  | { readonly type: 'dockerd-kill' }
  | { readonly type: 'dockerd-stop' }
  | { readonly type: 'dockerd-start' }
  /** Our next work is cut off after so many half steps, as by kill -9; then we start again. */
  | { readonly type: 'sabotage'; readonly halfSteps: number }
  | { readonly type: 'daemon-restart' }
  /** An engine says hello, as podman does with each of its commands. */
  | { readonly type: 'activate' }
  | { readonly type: 'tick'; readonly engine: boolean }
  | { readonly type: 'pass'; readonly ms: number }
  /** The next look at the mount tables, or the next mount, fails. */
  | { readonly type: 'fail'; readonly operation: 'users' | 'mount' | 'unmount' }
  | { readonly type: 'remove' };

type ContainerEvent = Extract<Event, { readonly c: number }>;

export interface EngineKind {
  readonly liveRestore: boolean;
  /** From 23 on dockerd restores its own count after a restart; 20.10 starts from nothing. */
  readonly restoresCounts: boolean;
}

interface Container {
  readonly pid: number;
  readonly isPodman: boolean;
  phase: 'stopped' | 'starting' | 'running';
  /** Survives a crash of the engine (moby, daemon/volume/mounts: MountPoint.ID). */
  id: MountId | undefined;
  /** The engine's own count, in its memory (MountPoint.active). */
  active: number;
  /** When it was told its mount point. */
  toldMs: number;
  copies: number;
}

const db = parseVolumeName('db');
/** podman uses one id for everything, and keeps the count to itself (podman, libpod/volume_internal_linux.go). */
const podmanId = parseMountId('2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2');

/**
 * A host with two engines, their containers and our daemon, all sharing one volume. The daemon is the real one;
 * engines do what moby's code and measurements say that they do. After each event the invariants are checked.
 */
export class Simulation {
  readonly host = new Host();
  readonly #kind: EngineKind;
  readonly #containers: readonly Container[] = [0, 1, 2, 3].map(newContainer);
  #daemon: Daemon;
  #dockerdUp = true;
  #ids = 0;
  #sabotage = Number.POSITIVE_INFINITY;

  private constructor(kind: EngineKind, host: Host, daemon: Daemon) {
    this.#kind = kind;
    this.host = host;
    this.#daemon = daemon;
  }

  static async begin(kind: EngineKind): Promise<Simulation> {
    const host = new Host();
    const daemon = await host.start();
    await daemon.service.create(db, daemon.driver, {});
    return new Simulation(kind, host, daemon);
  }

  async happen(event: Event): Promise<void> {
    await this.#act(event);
    await this.#checkInvariants();
  }

  /** Ends every container, gently or not, and gives the daemon what it needs to find out. */
  async finish(how: 'stopped' | 'died', word: 'activate' | 'engine'): Promise<void> {
    if (!this.#dockerdUp) await this.#startDockerd();
    for (const container of this.#containers) {
      if (how === 'stopped') {
        while (container.copies > 0) await this.#endCopy(container);
        await this.#stop(container);
      }
      this.#die(container);
      this.host.mounts.endProcess(copierOf(container));
    }
    if (word === 'activate') await this.#call(daemon => daemon.service.activate(daemon.driver.name));
    await this.happen({ type: 'pass', ms: graceMs });
    // One for each failure that may still be waiting, and one to work.
    for (let round = 0; round < 4; round += 1) {
      await this.happen({ type: 'tick', engine: word === 'engine' });
    }
    const { consumers } = this.#daemon.catalog.get(db);
    const leaked = [...consumers].filter(([id]) => id !== podmanId);
    if (leaked.length > 0) fail(`I3: a consumer leaked: ${JSON.stringify(leaked)}`);
    // What podman has not given back, it may still start containers on.
    if (consumers.size === 0 && (await isMounted(this.host))) fail('I3: a mount leaked');
    if (consumers.size > 0 && !(await isMounted(this.host))) fail('I1: unmounted while podman counts on it');
  }

  #act(event: Event): Promise<unknown> | undefined {
    return 'c' in event ? this.#actOnContainer(event) : this.#actOnHost(event);
  }

  #actOnContainer(event: ContainerEvent): Promise<unknown> | undefined {
    const container = this.#containers[event.c] as Container;
    if (!container.isPodman && !this.#dockerdUp) return undefined;
    switch (event.type) {
      case 'start':
        return this.#start(container, event.firstUse ?? false);
      case 'run':
        return this.#run(container);
      case 'stop':
        return this.#stop(container);
      case 'cp-begin':
        return this.#beginCopy(container);
      case 'cp-end':
        return this.#endCopy(container);
    }
  }

  #actOnHost(event: Exclude<Event, ContainerEvent>): Promise<unknown> | undefined {
    switch (event.type) {
      case 'dockerd-kill':
        return this.#endDockerd(false);
      case 'dockerd-stop':
        return this.#endDockerd(!this.#kind.liveRestore);
      case 'dockerd-start':
        return this.#dockerdUp ? undefined : this.#startDockerd();
      case 'sabotage':
        this.#sabotage = event.halfSteps;
        return undefined;
      case 'daemon-restart':
        return this.#restartDaemon();
      case 'activate':
        return this.#call(daemon => daemon.service.activate(daemon.driver.name));
      case 'tick':
        return this.#tick(event.engine);
      case 'pass':
        this.host.clock.advance(event.ms);
        return undefined;
      case 'fail':
        this.host.mounts.failNext(event.operation, new Unavailable('it cannot be done now; try again'));
        return undefined;
      case 'remove':
        return this.#remove();
    }
  }

  async #start(container: Container, firstUse: boolean): Promise<void> {
    if (container.phase !== 'stopped') return;
    if (firstUse && container.id === undefined) {
      if (!(await this.#mount(container))) return;
      await this.#unmount(container);
    }
    if (await this.#mount(container)) container.phase = 'starting';
  }

  async #run(container: Container): Promise<void> {
    if (container.phase !== 'starting') return;
    // Later than an engine can be, it finds an immutable empty directory and gives up.
    if (!(await isMounted(this.host))) await this.#stop(container);
    else {
      container.phase = 'running';
      runContainer(this.host, container.pid);
    }
  }

  async #stop(container: Container): Promise<void> {
    if (container.phase === 'stopped') return;
    this.#die(container);
    await this.#unmount(container);
  }

  #die(container: Container): void {
    container.phase = 'stopped';
    this.host.mounts.endProcess(container.pid);
  }

  /** dockerd mounts the volume for itself, in the container's file system; podman asks for nothing. */
  async #beginCopy(container: Container): Promise<void> {
    if (container.isPodman || container.phase !== 'running' || !(await this.#mount(container))) return;
    container.copies += 1;
    runContainer(this.host, copierOf(container));
  }

  async #endCopy(container: Container): Promise<void> {
    if (container.copies === 0) return;
    container.copies -= 1;
    if (container.copies === 0) this.host.mounts.endProcess(copierOf(container));
    await this.#unmount(container);
  }

  /** moby, MountPoint.Setup. Podman, which starts a process for each command, activates first. */
  async #mount(container: Container): Promise<boolean> {
    this.#ids += 1;
    const id = container.isPodman ? podmanId : (container.id ?? parseMountId(`id-${this.#ids}`));
    const answer = await this.#ask(container, daemon => daemon.service.mount(db, id));
    if (answer === undefined) return false;
    container.id = id;
    container.active += 1;
    container.toldMs = this.host.clock.now().getTime();
    if (!(await isMounted(this.host))) fail(`I4: Mount answered ${answer}, and nothing is mounted there`);
    return true;
  }

  /** moby, MountPoint.Cleanup. */
  async #unmount(container: Container): Promise<void> {
    const { id } = container;
    if (id === undefined) return;
    const answer = await this.#ask(container, async daemon => {
      await daemon.service.unmount(db, id);
      return true;
    });
    if (answer === undefined) return;
    container.active -= 1;
    if (container.active === 0) container.id = undefined;
  }

  async #endDockerd(gracefully: boolean): Promise<void> {
    if (!this.#dockerdUp) return;
    for (const container of this.#dockers()) {
      if (gracefully) {
        while (container.copies > 0) await this.#endCopy(container);
        await this.#stop(container);
      }
      if (container.phase === 'starting') container.phase = 'stopped';
      container.copies = 0;
      this.host.mounts.endProcess(copierOf(container));
      container.active = 0;
    }
    this.#dockerdUp = false;
  }

  async #startDockerd(): Promise<void> {
    this.#dockerdUp = true;
    await this.#call(daemon => daemon.service.activate(daemon.driver.name));
    for (const container of this.#dockers().filter(({ phase }) => phase === 'running')) {
      if (!this.#kind.liveRestore) this.#die(container);
      else if (this.#kind.restoresCounts) container.active = 1;
    }
  }

  async #restartDaemon(): Promise<void> {
    this.#sabotage = Number.POSITIVE_INFINITY;
    this.#daemon = await this.host.start();
  }

  async #tick(withEngine: boolean): Promise<void> {
    const containers = this.#dockers().map(({ pid, phase }) => {
      return { id: String(pid), name: String(pid), running: phase === 'running' };
    });
    const isAnswering = withEngine && this.#dockerdUp;
    this.host.engine.answer = isAnswering ? [{ name: 'db', labels: {}, containers }] : undefined;
    await this.#call(daemon => daemon.keeper.tick());
  }

  async #remove(): Promise<void> {
    if (this.#containers.every(({ phase }) => phase !== 'running')) return;
    const outcome = await this.#call(daemon => daemon.service.remove(db, 'engine').then(() => 'removed'));
    if (outcome === 'removed') fail('I2: a volume that a container uses was removed');
  }

  #dockers(): readonly Container[] {
    return this.#containers.filter(({ isPodman }) => !isPodman);
  }

  async #ask<T>(container: Container, call: (daemon: Daemon) => Promise<T>): Promise<T | undefined> {
    if (container.isPodman) await this.#call(daemon => daemon.service.activate(daemon.driver.name));
    return await this.#call(call);
  }

  /** @returns nothing when the daemon refused or died; an engine then takes the call for failed */
  async #call<T>(call: (daemon: Daemon) => Promise<T>): Promise<T | undefined> {
    const { power } = this.#daemon;
    power.cutAfter(this.#sabotage);
    this.#sabotage = Number.POSITIVE_INFINITY;
    const answer = await call(this.#daemon).catch((error: unknown) => {
      if (power.isOff || error instanceof Unavailable || error instanceof FailedPrecondition)
        return undefined;
      throw error;
    });
    if (!power.isOff) {
      power.cutAfter(Number.POSITIVE_INFINITY);
      return answer;
    }
    await this.#restartDaemon();
    return undefined;
  }

  async #checkInvariants(): Promise<void> {
    const now = this.host.clock.now().getTime();
    const needy = this.#containers.filter(({ phase, toldMs }) => {
      return phase === 'running' || (phase === 'starting' && now - toldMs < graceMs);
    });
    if (needy.length > 0 && !(await isMounted(this.host))) {
      fail(`I1: unmounted under ${JSON.stringify(needy)}`);
    }
    if (!this.host.memory.paths().includes(`${this.host.poolPath}/1/data`)) fail('I2: the data is gone');
  }
}

function newContainer(number: number): Container {
  return {
    pid: 1001 + number,
    isPodman: number === 3,
    phase: 'stopped',
    id: undefined,
    active: 0,
    toldMs: 0,
    copies: 0,
  };
}

/** The process that copies into or out of a container. */
function copierOf({ pid }: Container): number {
  return pid + 1_000;
}

function fail(message: string): never {
  throw new AssertionError(message);
}
