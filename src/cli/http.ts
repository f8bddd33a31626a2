import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import * as errors from '../errors/errors.ts';
import {
  DeadlineExceeded,
  type ErrorCode,
  Internal,
  messageOf,
  Unavailable,
  VarveError,
} from '../errors/errors.ts';

/** How long to wait for an answer, in milliseconds. */
export interface Patience {
  /** That the daemon has at hand. */
  readonly promptly: number;
  /** That takes a walk over the disk, or the next piece of a long one. */
  readonly patiently: number;
}

/** Requests to a daemon that listens on a unix socket. */
export interface Connection {
  /** Asks for a value. @throws the error class that the daemon named; Unavailable, DeadlineExceeded */
  call<T>(method: string, path: string, options?: CallOptions): Promise<T>;
  /**
   * Sends a body piece by piece, and gives back the answer the same way; it throws when that breaks off.
   * @throws as call does, and what the body throws, which has to be one of our errors
   */
  stream(method: string, path: string, body?: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Buffer>>;
}

export interface CallOptions {
  readonly body?: unknown;
  readonly isSlow?: boolean;
}

export function connectTo(socketPath: string, { promptly, patiently }: Patience): Connection {
  return {
    call: <T>(method: string, path: string, { body, isSlow = false }: CallOptions = {}) => {
      const call = { socketPath, method, path, timeout: isSlow ? patiently : promptly };
      return send(call, body) as Promise<T>;
    },
    stream: (method, path, body) => stream({ socketPath, method, path, timeout: patiently }, body),
  };
}

interface Call {
  readonly socketPath: string;
  readonly method: string;
  readonly path: string;
  /** Milliseconds. */
  readonly timeout: number;
}

function send(call: Call, body: unknown): Promise<unknown> {
  const { socketPath, method, path, timeout } = call;
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers = text === '' ? {} : { 'content-type': 'application/json' };
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const fail = (error: unknown) => reject(connectionError(error, call));
  const signal = AbortSignal.timeout(timeout);
  const outgoing = request({ socketPath, method, path, headers, agent: false, signal }, incoming => {
    textOf(incoming)
      .then(received => resolve(answer(incoming.statusCode ?? 0, received, call)))
      .catch(fail);
  });
  outgoing.on('error', fail);
  outgoing.end(text);
  return promise;
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  return Buffer.concat((await incoming.toArray()) as Buffer[]).toString('utf8');
}

async function stream(
  call: Call,
  body: AsyncIterable<Uint8Array> | undefined,
): Promise<AsyncIterable<Buffer>> {
  const { socketPath, method, path, timeout } = call;
  // Else the daemon closes the connection with its answer, and who is still sending then never sees that.
  const headers = body === undefined ? {} : { connection: 'keep-alive' };
  const outgoing = request({ socketPath, method, path, headers, agent: false, timeout });
  outgoing.on('timeout', () => outgoing.destroy(new DOMException('no answer', 'TimeoutError')));
  const answered = Promise.withResolvers<IncomingMessage>();
  outgoing.on('response', answered.resolve);
  outgoing.on('error', answered.reject);
  // Whoever waits for the answer is told; before that, nobody may be waiting yet.
  answered.promise.catch(() => undefined);
  try {
    if (body === undefined) outgoing.end();
    else await upload(body, outgoing, answered.promise);
    const incoming = await answered.promise;
    if (incoming.statusCode !== 200 && incoming.statusCode !== 201) {
      answer(incoming.statusCode ?? 0, await textOf(incoming), call);
    }
    return pieces(incoming, call);
  } catch (error) {
    outgoing.destroy();
    throw connectionError(error, call);
  }
}

/** Sends a body until the answer comes, which may be before its end: then nobody wants the rest. */
async function upload(
  body: AsyncIterable<Uint8Array>,
  outgoing: ClientRequest,
  answered: Promise<unknown>,
): Promise<void> {
  let isAnswered = false;
  const settled = answered
    .catch(() => undefined)
    .then(() => {
      isAnswered = true;
    });
  for await (const piece of body) {
    if (isAnswered) break;
    if (!outgoing.write(piece)) await Promise.race([drained(outgoing), settled]);
  }
  outgoing.end();
}

async function drained(outgoing: ClientRequest): Promise<void> {
  await once(outgoing, 'drain').catch(() => undefined);
}

async function* pieces(incoming: IncomingMessage, call: Call): AsyncGenerator<Buffer> {
  try {
    for await (const piece of incoming) yield piece as Buffer;
  } catch (error) {
    throw connectionError(error, call);
  }
}

function answer(status: number, text: string, { method, path }: Call): unknown {
  const body = parsed(text);
  if (status >= 200 && status < 300 && (status === 204 || body !== undefined)) return body;
  const named = errorOf(body);
  if (named !== undefined) throw named;
  throw new Internal(
    `the daemon answered ${method} ${path} with status ${status} and nothing that varve understands; check with \`varve status\` that both have the same version`,
  );
}

/** The error that the daemon has put into words. */
export function errorOf(body: unknown): VarveError | undefined {
  const { code, message } = (body ?? {}) as { code?: unknown; message?: unknown };
  const isNamed = typeof code === 'string' && typeof message === 'string' && Object.hasOwn(classes, code);
  return isNamed ? new classes[code as ErrorCode](message) : undefined;
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

function connectionError(error: unknown, { socketPath, method, path, timeout }: Call): VarveError {
  if (error instanceof VarveError) return error;
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
