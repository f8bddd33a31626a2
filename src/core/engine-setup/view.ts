/** What the faces show of engines. Plain JSON. */

/** A file that an engine reads, as it is to be. */
export interface SetupFile {
  readonly path: string;
  readonly text: string;
  /** `kept`: it is like that already. */
  readonly state: 'new' | 'changed' | 'kept';
  /** Where what it held before is kept; null when there was nothing. */
  readonly backup: string | null;
}

/** A line that a person has to add, because varve changes no file that is not its own. */
export interface SetupLine {
  readonly path: string;
  readonly line: string;
  /** Which line it takes the place of; null for one to put at the top. */
  readonly replaces: string | null;
}

export interface EngineSetup {
  readonly engine: EngineName;
  /** Of the program that will read the files; null when it is not on this host. */
  readonly version: string | null;
  /** Under which name it will know varve, and as what. */
  readonly name: string;
  readonly face: EngineFace;
  /** Where varve answers it. */
  readonly socket: string;
  readonly files: readonly SetupFile[];
  readonly lines: readonly SetupLine[];
  /** The command that checked the result; null when the engine has none. */
  readonly checkedBy: string | null;
  /** What a person should know before the engine is restarted. */
  readonly notes: readonly string[];
  readonly restart: string;
  readonly restarted: boolean;
}

export type EngineName = 'containerd' | 'docker';

/** Snapshotter: containerd, and Docker with its image store; graph driver: Docker up to 27. */
export type EngineFace = 'snapshotter' | 'graph driver';

/** What `varve engine check` found out about one engine. */
export interface EngineReport {
  readonly engine: EngineName;
  readonly address: string;
  /** Null when it does not answer. */
  readonly version: string | null;
  readonly reachable: boolean;
  readonly usesVarve: boolean;
  readonly face: EngineFace | null;
  /** The socket of varve that it uses; null when it uses none. */
  readonly socket: string | null;
  readonly missing: readonly Missing[];
}

export interface Missing {
  readonly what: string;
  readonly fix: string;
  /** True for what the engine works without. */
  readonly optional: boolean;
}
