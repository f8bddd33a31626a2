import { resolve } from 'node:path';
import { z } from 'zod';
import { parseDriverName, parseLayerStoreName, parsePoolName, parseSnapshotterName } from '../core/names.ts';
import { parseSize } from '../core/quantity.ts';
import { messageOf } from '../errors/errors.ts';

/** What the schema says of a key besides its type and default: for `varve config`, the flags and the docs. */
export interface KeyNotes {
  readonly doc: string;
  readonly unit?: string;
  /** A default that depends on other keys, in words; the others are in the schema itself. */
  readonly defaultText?: string;
}

export const notes = z.registry<KeyNotes>();

/** Longest path of a unix socket, in bytes: `sun_path` without its final NUL (unix(7)). */
const maxSocketPathLength = 107;

const path = () =>
  z
    .string()
    .refine(
      text => text.startsWith('/') && !text.includes('\0'),
      'is not an absolute path; start it with "/"',
    )
    .overwrite(text => resolve(text));
const socketPath = () =>
  path().refine(
    text => Buffer.byteLength(text) <= maxSocketPathLength,
    `is longer than the ${maxSocketPathLength} bytes that a unix socket path may have; choose a shorter one`,
  );
const seconds = (fallback: number) => z.int().min(1).max(86_400).default(fallback);
const parsable = (parse: (raw: string) => unknown) =>
  z.string().superRefine((raw, context) => {
    try {
      parse(raw);
    } catch (error) {
      context.addIssue({ code: 'custom', message: messageOf(error) });
    }
  });

const tls = z
  .strictObject({
    certFile: path().register(notes, { doc: 'Certificate of this server, PEM' }),
    keyFile: path().register(notes, { doc: 'Private key of the certificate, PEM' }),
    caFile: path().register(notes, {
      doc: 'Certificate authority, PEM; a client without a certificate that it signed is refused',
    }),
  })
  .optional();

const tcp = z
  .strictObject({
    address: z
      .string()
      .regex(
        /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]|localhost):\d{1,5}$/,
        'is not an IP address and port such as "127.0.0.1:7000"',
      )
      .register(notes, { doc: 'IP address and port where engines reach this driver besides its socket' }),
    insecure: z.boolean().default(false).register(notes, {
      doc: 'Whether to serve without TLS: any local process may then use and delete every volume',
    }),
    tls,
  })
  .superRefine((server, context) => {
    const problem = exposure(server.address, server.insecure, server.tls !== undefined);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  })
  .optional();

/** Why a driver may not be served on TCP in this way: whoever can connect can read and delete every volume. */
function exposure(address: string, insecure: boolean, encrypted: boolean): string | undefined {
  if (encrypted) return insecure ? 'has both tls and insecure: true; remove one of them' : undefined;
  if (!insecure) {
    return 'has no tls, so that anyone who can connect could delete every volume; give tls, or accept it with insecure: true';
  }
  return /^(127\.|\[::1\]|localhost:)/.test(address)
    ? undefined
    : `serves ${address} without TLS, where other hosts could delete every volume; give tls, or an address of 127.0.0.0/8`;
}

const pool = z.strictObject({
  driver: z.enum(['directory']).default('directory').register(notes, { doc: 'Kind of pool' }),
  path: path().register(notes, { doc: 'Directory that holds the volumes of this pool' }),
});

const layerStore = z.strictObject({
  driver: z.enum(['auto', 'overlay', 'btrfs', 'copy', 'fuse-overlayfs']).default('auto').register(notes, {
    doc: 'How layers are kept: `auto` takes the first that works there of btrfs, overlay, fuse-overlayfs and copy',
  }),
  path: path().register(notes, { doc: 'Directory that holds the layers of this store' }),
});

const driver = z
  .strictObject({
    pool: parsable(parsePoolName)
      .default('default')
      .register(notes, { doc: 'Pool of volumes whose creator names none' }),
    socket: socketPath().optional().register(notes, {
      doc: 'Plugin socket of this driver',
      defaultText: '/run/docker/plugins/NAME.sock',
    }),
    options: z.record(z.string(), z.string()).default({}).register(notes, {
      doc: 'Defaults for the options of new volumes, as `docker volume create -o` takes them',
    }),
    layerStore: parsable(parseLayerStoreName).optional().register(notes, {
      doc: 'Layer store of the engine whose storage driver this is (Docker Engine 20.10 to 27); that of `varve` is `docker`',
      defaultText: 'none',
    }),
    tcp,
  })
  .prefault({});

const snapshotter = z
  .strictObject({
    socket: socketPath().optional().register(notes, {
      doc: 'Socket where containerd reaches this snapshotter and its differ; that of `varve` is `<run>/containerd.sock`',
      defaultText: '<run>/containerd-NAME.sock',
    }),
    layerStore: parsable(parseLayerStoreName)
      .default('containerd')
      .register(notes, { doc: 'Layer store that it keeps images and containers in' }),
    containerd: socketPath().default('/run/containerd/containerd.sock').register(notes, {
      doc: 'Socket of the containerd that uses it, to read and write the archives of layers',
    }),
    limit: parsable(parseSize).optional().register(notes, {
      doc: 'The most that each container may write, such as `20Gi`, unless its engine asks for another limit',
      defaultText: 'none',
    }),
    sync: z.enum(['apply', 'later']).default('apply').register(notes, {
      doc: 'When the data of a layer is on the disk: `apply`, before the engine hears that it is there, or `later`: a power cut may then damage layers that are younger than `intervals.reconcileSeconds`, which are refused until they are removed',
    }),
  })
  .prefault({});

/** The one description of the configuration: types, defaults, units and docs of every key. */
export const configSchema = z.strictObject({
  root: path().default('/var/lib/varve').register(notes, {
    doc: 'Directory for everything that outlives a reboot: records, the pool `default`, the layer stores `default`, `containerd` and `docker`, mount points',
  }),
  mountPoints: path().optional().register(notes, {
    doc: 'Directory below which volumes are mounted',
    defaultText: '<root>/mnt',
  }),
  run: path().default('/run/varve').register(notes, { doc: 'Directory for what a reboot clears' }),
  adminSocket: socketPath().optional().register(notes, {
    doc: 'Socket that the `varve` command talks to',
    defaultText: '<run>/varve.sock',
  }),
  engine: z
    .string()
    .regex(
      /^(auto|none|unix:\/\/\/.+|(tcp|https?):\/\/.+)$/,
      'is not an engine; use auto, none, unix:///PATH or tcp://HOST:PORT',
    )
    .default('auto')
    .register(notes, {
      doc: 'Container engine to ask who uses a volume: its address, `none`, or `auto` (DOCKER_HOST, else unix:///var/run/docker.sock)',
    }),
  log: z
    .strictObject({
      level: z
        .enum(['error', 'warn', 'info', 'debug'])
        .default('info')
        .register(notes, { doc: 'Least severe message to log' }),
      format: z.enum(['auto', 'json', 'text']).default('auto').register(notes, {
        doc: 'How messages look: `auto` is text on a terminal and JSON elsewhere',
      }),
    })
    .prefault({}),
  intervals: z
    .strictObject({
      reconcileSeconds: seconds(30).register(notes, {
        unit: 's',
        doc: 'Time between two looks at the engine and the mount table',
      }),
      usageSeconds: seconds(300).register(notes, {
        unit: 's',
        doc: 'Time between two measurements of a volume',
      }),
    })
    .prefault({}),
  debug: z.boolean().default(false).register(notes, {
    doc: 'Whether to log every request of an engine with its answer, and failures with their stack',
  }),
  managed: z.boolean().default(false).register(notes, {
    doc: 'Whether the engine runs the daemon as a managed plugin: options that name host paths are then refused, and mount points are not made immutable',
  }),
  pools: z.record(parsable(parsePoolName), pool).default({}),
  layerStores: z.record(parsable(parseLayerStoreName), layerStore).default({}),
  drivers: z.record(parsable(parseDriverName), driver).default({}),
  snapshotters: z.record(parsable(parseSnapshotterName), snapshotter).default({}),
});

/** The configuration as written: what is derived from other keys may be absent. */
export type Settings = z.output<typeof configSchema>;
export type PoolConfig = Settings['pools'][string];
export type LayerStoreConfig = Settings['layerStores'][string];
export type TcpConfig = NonNullable<Settings['drivers'][string]['tcp']>;
export type DriverConfig = Omit<Settings['drivers'][string], 'socket'> & { readonly socket: string };
export type SnapshotterConfig = Omit<Settings['snapshotters'][string], 'socket'> & {
  readonly socket: string;
};

/**
 * The effective configuration. It always has the pool `default`, the layer store `default` and the driver `varve`, and
 * but for a managed plugin the layer stores `containerd` and `docker` and the snapshotter `varve`; each pool and layer
 * store that is named exists; `engine` is an address or `none`.
 */
export interface Config
  extends Pick<Settings, 'root' | 'run' | 'engine' | 'log' | 'intervals' | 'debug' | 'managed'> {
  readonly mountPoints: string;
  readonly adminSocket: string;
  readonly pools: Readonly<Record<string, PoolConfig>>;
  readonly layerStores: Readonly<Record<string, LayerStoreConfig>>;
  readonly drivers: Readonly<Record<string, DriverConfig>>;
  readonly snapshotters: Readonly<Record<string, SnapshotterConfig>>;
}
