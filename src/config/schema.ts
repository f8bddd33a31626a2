import { resolve } from 'node:path';
import { z } from 'zod';
import { parseDriverName, parseLayerStoreName, parsePoolName } from '../core/names.ts';
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
const named = (parse: (raw: unknown) => string) =>
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
    pool: named(parsePoolName)
      .default('default')
      .register(notes, { doc: 'Pool of volumes whose creator names none' }),
    socket: socketPath().optional().register(notes, {
      doc: 'Plugin socket of this driver',
      defaultText: '/run/docker/plugins/NAME.sock',
    }),
    options: z.record(z.string(), z.string()).default({}).register(notes, {
      doc: 'Defaults for the options of new volumes, as `docker volume create -o` takes them',
    }),
    tcp,
  })
  .prefault({});

/** The one description of the configuration: types, defaults, units and docs of every key. */
export const configSchema = z.strictObject({
  root: path().default('/var/lib/varve').register(notes, {
    doc: 'Directory for everything that outlives a reboot: records, the pool `default`, the layer store `default`, mount points',
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
  pools: z.record(named(parsePoolName), pool).default({}),
  layerStores: z.record(named(parseLayerStoreName), layerStore).default({}),
  drivers: z.record(named(parseDriverName), driver).default({}),
});

/** The configuration as written: what is derived from other keys may be absent. */
export type Settings = z.output<typeof configSchema>;
export type PoolConfig = Settings['pools'][string];
export type LayerStoreConfig = Settings['layerStores'][string];
export type TcpConfig = NonNullable<Settings['drivers'][string]['tcp']>;
export type DriverConfig = Omit<Settings['drivers'][string], 'socket'> & { readonly socket: string };

/**
 * The effective configuration. It always has the pool `default`, the layer store `default` and the driver `varve`;
 * each driver's pool exists; `engine` is an address or `none`.
 */
export interface Config
  extends Pick<Settings, 'root' | 'run' | 'engine' | 'log' | 'intervals' | 'debug' | 'managed'> {
  readonly mountPoints: string;
  readonly adminSocket: string;
  readonly pools: Readonly<Record<string, PoolConfig>>;
  readonly layerStores: Readonly<Record<string, LayerStoreConfig>>;
  readonly drivers: Readonly<Record<string, DriverConfig>>;
}
