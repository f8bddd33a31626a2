import { request } from 'node:http';
import type { StateExport, StateFinding, StatusView, VolumeView } from '../core/volumes/view.ts';
import * as errors from '../errors/errors.ts';
import {
  DeadlineExceeded,
  type ErrorCode,
  Internal,
  messageOf,
  Unavailable,
  type VarveError,
} from '../errors/errors.ts';

/** How long to wait for an answer, in milliseconds. */
export interface Patience {
  /** That the daemon has at hand. */
  readonly promptly: number;
  /** That takes a walk over the disk. */
  readonly patiently: number;
}

export interface VolumeRequest {
  readonly name: string;
  readonly options: Readonly<Record<string, string>>;
  readonly driver?: string;
}

/** The daemon's admin API. Every call rejects with the error class that the daemon named, or with Unavailable. */
export interface AdminClient {
  volumes(): Promise<readonly VolumeView[]>;
  volume(name: string): Promise<VolumeView>;
  /** Returns while a copy goes on: the phase is then `Creating`. */
  createVolume(volume: VolumeRequest): Promise<VolumeView>;
  removeVolume(name: string): Promise<void>;
  protectVolume(name: string, wanted: boolean): Promise<VolumeView>;
  /** Walks the volume, so that its usage is fresh. */
  measureVolume(name: string): Promise<VolumeView>;
  status(): Promise<StatusView>;
  exportState(): Promise<StateExport>;
  checkState(repair: boolean): Promise<readonly StateFinding[]>;
}

/** A client of the daemon that listens on a unix socket. */
export function adminClient(
  socketPath: string,
  { promptly, patiently }: Patience = { promptly: 30_000, patiently: 3_600_000 },
): AdminClient {
  const call = <T>(method: string, path: string, body?: unknown, timeout = promptly) =>
    send(socketPath, { method, path, body, timeout }) as Promise<T>;
  const at = (name: string) => `/v1/volumes/${encodeURIComponent(name)}`;
  return {
    volumes: () => call('GET', '/v1/volumes'),
    volume: name => call('GET', at(name)),
    createVolume: volume => call('POST', '/v1/volumes', volume),
    removeVolume: name => call('DELETE', at(name)),
    protectVolume: (name, wanted) => call('POST', `${at(name)}/${wanted ? 'protect' : 'unprotect'}`),
    measureVolume: name => call('POST', `${at(name)}/measure`, undefined, patiently),
    status: () => call('GET', '/v1/status'),
    exportState: () => call('GET', '/v1/state/export'),
    checkState: repair => call('POST', `/v1/state/check?repair=${repair}`, undefined, patiently),
  };
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
  /** Milliseconds. */
  readonly timeout: number;
}

function send(socketPath: string, call: Call): Promise<unknown> {
  const { method, path, timeout } = call;
  const text = call.body === undefined ? '' : JSON.stringify(call.body);
  const headers = text === '' ? {} : { 'content-type': 'application/json' };
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const fail = (error: unknown) => reject(connectionError(error, socketPath, call));
  const signal = AbortSignal.timeout(timeout);
  const outgoing = request({ socketPath, method, path, headers, agent: false, signal }, incoming => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('error', fail);
    incoming.on('end', () => {
      try {
        resolve(answer(incoming.statusCode ?? 0, Buffer.concat(chunks).toString('utf8'), call));
      } catch (error) {
        reject(error);
      }
    });
  });
  outgoing.on('error', fail);
  outgoing.end(text);
  return promise;
}

function answer(status: number, text: string, { method, path }: Call): unknown {
  const body = parsed(text);
  if (status >= 200 && status < 300 && (status === 204 || body !== undefined)) return body;
  const { code, message } = (body ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === 'string' && typeof message === 'string' && Object.hasOwn(classes, code)) {
    throw new classes[code as ErrorCode](message);
  }
  throw new Internal(
    `the daemon answered ${method} ${path} with status ${status} and nothing that varve understands; check with \`varve status\` that both have the same version`,
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const classes: Readonly<Record<ErrorCode, new (message: string) => VarveError>> = {
  InvalidArgument: errors.InvalidArgument,
  NotFound: errors.NotFound,
  AlreadyExists: errors.AlreadyExists,
  FailedPrecondition: errors.FailedPrecondition,
  Aborted: errors.Aborted,
  Exhausted: errors.Exhausted,
  Unavailable: errors.Unavailable,
  DeadlineExceeded: errors.DeadlineExceeded,
  Unimplemented: errors.Unimplemented,
  Internal: errors.Internal,
};

function connectionError(error: unknown, socketPath: string, { method, path, timeout }: Call): VarveError {
  const { name, code } = error as NodeJS.ErrnoException;
  if (name === 'TimeoutError' || (error as Error).cause instanceof DOMException) {
    return new DeadlineExceeded(
      `the varve daemon did not answer ${method} ${path} within ${timeout / 1000} s; its log says what it is doing`,
    );
  }
  if (code === 'ECONNREFUSED' || code === 'ENOENT') {
    return new Unavailable(
      `the varve daemon does not answer on ${socketPath}; start it with \`varve daemon\`, or name its socket with --socket or VARVE_SOCKET`,
    );
  }
  if (code === 'EACCES') {
    return new Unavailable(
      `the socket ${socketPath} of the varve daemon refuses this user; run the command as root`,
    );
  }
  return new Unavailable(
    `the varve daemon on ${socketPath} broke off ${method} ${path}: ${messageOf(error)}; its log says why`,
  );
}
