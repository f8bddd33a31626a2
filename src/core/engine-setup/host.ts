/** What setting up and checking engines needs from outside. */
import type { EngineName } from './view.ts';

/** The program of an engine, as it runs here, or as it would. */
export interface EngineProgram {
  readonly path: string;
  /** As it says itself: `1.6.20~ds1`. */
  readonly version: string;
  readonly major: number;
  readonly minor: number;
  /** Empty when it does not run, or another process listens for it. */
  readonly commandLine: readonly string[];
}

/** The engine's programs and files on this host. Paths are absolute. */
export interface EngineHost {
  /** As in `linux/amd64`. */
  readonly platform: string;
  /**
   * The program that answers on a socket, else the one that is installed.
   * @param named a path, which is taken instead @throws NotFound, Internal
   */
  find(name: 'containerd' | 'dockerd', socket: string, named?: string): Promise<EngineProgram>;
  run(
    program: string,
    words: readonly string[],
  ): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
  /** For the time of `work`, files in a directory of their own. */
  withFiles<T>(
    files: (directory: string) => Readonly<Record<string, string>>,
    work: (directory: string) => Promise<T>,
  ): Promise<T>;
  /** The text of a file, or undefined when there is none. */
  read(path: string): Promise<string | undefined>;
  /** Puts a whole file in place. @param backup where a copy of the one before is kept */
  write(path: string, text: string, backup: string | null): Promise<void>;
  /** A name beside a file that nothing has yet. */
  backupOf(path: string): string;
  /** The command that restarts an engine here. */
  restartCommand(engine: EngineName): readonly [string, ...string[]];
}

/** What an engine in use says of itself. */
export interface EngineQuestions {
  /** The plugins of the containerd at an address. @throws Unavailable */
  plugins(address: string): Promise<readonly EnginePlugin[]>;
  /** Calls a snapshotter of varve. @throws Unavailable */
  callSnapshotter(name: string, socket: string): Promise<void>;
  /** What the Docker at an address stores on. @throws Unavailable */
  storage(address: string): Promise<EngineStorage>;
}

export interface EnginePlugin {
  readonly type: string;
  readonly id: string;
  /** Of the socket behind a proxy. */
  readonly address: string | undefined;
  /** Why it is not loaded. */
  readonly failure: string | undefined;
}

export interface EngineStorage {
  readonly version: string;
  /** The storage driver, or with images kept in containerd the snapshotter. */
  readonly driver: string;
  readonly isSnapshotter: boolean;
  /** Address of its containerd; engines before 27 do not say. */
  readonly containerd: string | undefined;
}

/** Where engines find varve: of the configuration, what concerns them. */
export interface EngineFaces {
  /** The address of Docker, such as `unix:///var/run/docker.sock`. */
  readonly docker: string;
  readonly snapshotters: Readonly<Record<string, SnapshotterFace>>;
  /** The drivers that are graph drivers as well. */
  readonly graphDrivers: Readonly<Record<string, { readonly socket: string }>>;
}

export interface SnapshotterFace {
  readonly socket: string;
  /** Path of the socket of the containerd that it serves. */
  readonly containerd: string;
  /** The directory of its layers. */
  readonly root: string;
}

export interface SetupRequest {
  readonly engine: EngineName;
  /** The snapshotter or driver of the configuration. */
  readonly name: string;
  readonly program?: string | undefined;
  /** The engine's configuration file. */
  readonly file?: string | undefined;
  /** Only say what would be written. */
  readonly print: boolean;
  readonly restart: boolean;
}
