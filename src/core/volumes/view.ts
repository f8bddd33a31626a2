/**
 * What the faces show of a volume and of the daemon. Plain JSON: the admin socket sends these as they are.
 */
export interface VolumeView {
  readonly name: string;
  readonly driver: string;
  readonly pool: string;
  readonly number: number;
  /** Where it is mounted now; empty when it is not. */
  readonly mountPoint: string;
  readonly createdAt: string;
  readonly phase: 'Creating' | 'Ready' | 'Failed' | 'Unrecorded';
  /** `ok`, or what is wrong and the way out. */
  readonly health: string;
  readonly protected: boolean;
  readonly options: Readonly<Record<string, string>>;
  /** As the engine keeps them, learned in the background. */
  readonly labels: Readonly<Record<string, string>>;
  /** Bytes; null when the volume has no limit. */
  readonly limitBytes: number | null;
  /** Null until measured for the first time. */
  readonly usage: { readonly bytes: number; readonly inodes: number; readonly measuredAt: string } | null;
  readonly consumers: readonly ConsumerView[];
  /** Names of the containers that have it among their mounts, as the engine told in the background. */
  readonly containers: readonly string[];
  /** Of a copy that is under way. */
  readonly progress: { readonly doneBytes: number; readonly totalBytes: number } | null;
}

export interface ConsumerView {
  readonly mountId: string;
  readonly count: number;
  /** False when the engine or the daemon has restarted since its first mount: the count may be too high. */
  readonly confirmed: boolean;
  /** RFC 3339, of the latest mount. */
  readonly since: string;
}

export interface PoolView {
  readonly name: string;
  readonly driver: string;
  readonly root: string;
  readonly health: string;
  readonly capabilities: { readonly quota: 'hard' | 'none' };
  readonly freeBytes: number | null;
  readonly totalBytes: number | null;
  readonly volumes: number;
}

export interface StatusView {
  /** Whether the engine runs the daemon as a managed plugin. */
  readonly managed: boolean;
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly root: string;
  readonly drivers: readonly {
    readonly name: string;
    readonly addresses: readonly string[];
    readonly pool: string;
  }[];
  readonly snapshotters: readonly {
    readonly name: string;
    readonly addresses: readonly string[];
    readonly layerStore: string;
  }[];
  readonly engine: {
    readonly address: string;
    readonly reachable: boolean;
    readonly version: string | null;
    readonly error: string | null;
  };
  readonly pools: readonly PoolView[];
  readonly volumes: { readonly total: number; readonly mounted: number; readonly unhealthy: number };
  /** Things that need a person, each with the way out. */
  readonly warnings: readonly string[];
}

/** One disagreement between the records, the disk and the mount table. */
export interface StateFinding {
  readonly problem:
    | 'missing-data'
    | 'unrecorded-volume'
    | 'damaged-manifest'
    | 'stale-manifest'
    | 'leftover-mount'
    | 'missing-mount'
    | 'pool-unavailable';
  readonly subject: string;
  readonly message: string;
  /** What `--repair` does about it, or null when a person has to. */
  readonly repair: string | null;
  readonly repaired: boolean;
}

/** One line of `varve doctor`. */
export interface DoctorFinding {
  readonly check: string;
  readonly verdict: 'ok' | 'warning' | 'failure';
  readonly message: string;
  /** How to fix it; null when there is nothing to fix. */
  readonly fix: string | null;
}

/** Everything the records hold: what `varve state export` prints. It has no secrets, because none is accepted. */
export interface StateExport {
  readonly version: 1;
  readonly exportedAt: string;
  readonly revision: number;
  readonly objects: readonly { readonly key: string; readonly value: unknown }[];
}
