import type { Socket } from 'node:net';
import express, { type Express, type Request, type Response } from 'express';
import { show } from '../../core/names.ts';
import { InvalidArgument, messageOf, NotFound } from '../../errors/errors.ts';
import { toDocker } from '../../errors/to-docker.ts';
import { faultPoint } from '../../lib/fault.ts';
import type { Logger } from '../../lib/log.ts';
import { received, sendArchive, whenClosed } from '../admin/streams.ts';
import { type Body, engineStarted, type VolumeDriverParts, volumeCalls } from './calls.ts';
import { EngineWatch } from './engine-watch.ts';
import { ArchiveAnswer, applyDiff, graphCalls } from './graph-driver.ts';

export interface PluginParts extends VolumeDriverParts {
  /** Requests wait for this: the socket is bound before the state is loaded. */
  readonly ready: Promise<void>;
  /** The process at the other end of a connection, if it can be known. */
  readonly peerPid: (socket: Socket) => number | undefined;
  /** Told of the process of each call. */
  readonly onPeer: (pid: number | undefined) => void;
  readonly log: Logger;
  /** Whether the engine runs us as a managed plugin: it then never says that it has started anew. */
  readonly managed: boolean;
  /** Whether to log every request with its answer, and failures with their stack. */
  readonly debug: boolean;
}

/** Largest request body; an engine's longest is a Create with its options. */
const bodyLimit = '1mb';

/**
 * The plugin socket of one driver (Docker plugin API: VolumeDriver, GraphDriver). dockerd sends no Content-Type, at times an
 * empty Host, and after a broken connection repeats a request with an empty body.
 */
export function pluginApp(parts: PluginParts): Express {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  const { graph } = parts;
  if (graph !== undefined) {
    app.post('/GraphDriver.ApplyDiff', async (request, response) => {
      await parts.ready;
      await answer(parts, 'GraphDriver.ApplyDiff', request, response, () =>
        applyDiff(graph, request.query, received(request, response), whenClosed(response)),
      );
    });
  }
  app.use(express.text({ type: () => true, limit: bodyLimit }));
  const engine = new EngineWatch(() => engineStarted(parts));
  for (const [method, call] of Object.entries(volumeCalls(parts))) {
    app.post(`/${method}`, async (request, response) => {
      await parts.ready;
      const peer = parts.peerPid(request.socket);
      parts.onPeer(peer);
      if (parts.managed) await engine.see(peer);
      await answer(parts, method, request, response, body => call(body, peer));
    });
  }
  for (const [method, call] of Object.entries(graph === undefined ? {} : graphCalls(graph))) {
    app.post(`/${method}`, async (request, response) => {
      await parts.ready;
      const caller = { peer: parts.peerPid(request.socket), signal: whenClosed(response) };
      await answer(parts, method, request, response, body => call(body, caller));
    });
  }
  app.use((request: Request, response: Response) => {
    const { status, body } = toDocker(new NotFound(`varve has no ${request.method} ${show(request.path)}`));
    response.status(status).json(body);
  });
  app.use((error: unknown, _request: Request, response: Response, _next: unknown) => {
    const { status, body } = toDocker(new InvalidArgument(`the request cannot be read: ${messageOf(error)}`));
    response.status(status).json(body);
  });
  return app;
}

async function answer(
  parts: PluginParts,
  method: string,
  request: Request,
  response: Response,
  call: (body: Body) => Promise<object>,
): Promise<void> {
  const began = performance.now();
  const trace = (outcome: () => string): void => {
    if (!parts.debug) return;
    const ms = (performance.now() - began).toFixed(1);
    parts.log.debug(`${method} ${describeBody(request.body)}: ${outcome()} (${ms} ms)`);
  };
  try {
    const fault = faultPoint(`docker.${method}`);
    if (fault === 'hang') return;
    if (fault === 'drop') return void request.socket.destroy();
    if (fault === 'empty') return void response.json({});
    const result = await call(parseBody(request.body));
    if (fault === 'lose') return void request.socket.destroy();
    trace(await send(response, result));
  } catch (error) {
    // An engine asks for each name before it creates it.
    const isQuestion = method === 'VolumeDriver.Get' && error instanceof NotFound;
    parts.log[isQuestion ? 'debug' : 'warn'](`${method}: ${messageOf(error)}`);
    trace(() => (error instanceof Error ? error.stack : undefined) ?? String(error));
    if (method === 'VolumeDriver.Get' && !isAboutVolume(request, error)) {
      // dockerd takes any answer but success for "no such volume" and then deletes the volume's labels and
      // options for good; a broken connection it tries again.
      request.socket.destroy();
      return;
    }
    // An archive that breaks off tells of it by the broken connection.
    if (response.headersSent || response.destroyed) return;
    const { status, body } = toDocker(error);
    response.status(status).json(body);
  }
}

/** @returns what was sent, for the log */
async function send(response: Response, result: object): Promise<() => string> {
  if (!(result instanceof ArchiveAnswer)) {
    response.json(result);
    return () => JSON.stringify(result);
  }
  await sendArchive(response, result.archive);
  return () => 'an archive';
}

/**
 * Whether an error tells something of the volume that was asked for. An empty request does not even say which:
 * that is how dockerd repeats a question whose connection broke (moby#39331).
 */
function isAboutVolume(request: Request, error: unknown): boolean {
  const isEmpty = typeof request.body !== 'string' || request.body.trim() === '';
  return !isEmpty && (error instanceof NotFound || error instanceof InvalidArgument);
}

/** A request for the log: the values of its options may be secrets. */
function describeBody(text: unknown): string {
  try {
    const { Opts, ...rest } = parseBody(text);
    const options = typeof Opts === 'object' && Opts !== null ? { Opts: Object.keys(Opts) } : {};
    return JSON.stringify({ ...rest, ...options });
  } catch {
    return 'with an unintelligible body';
  }
}

/** @throws InvalidArgument */
function parseBody(text: unknown): Body {
  if (typeof text !== 'string' || text.trim() === '') return {};
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Body;
  } catch {
    // Falls through: text that is no JSON, and JSON that is no object, are refused alike.
  }
  throw new InvalidArgument(`the request body ${show(text)} is not a JSON object`);
}
