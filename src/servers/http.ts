import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Express } from 'express';

/** PEM texts for a server that only clients with a certificate of `ca` can talk to. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** Longest head of a request, in bytes: two names of layers fit in, percent-encoded. */
const maxHeaderSize = 64 * 1024;

/**
 * An HTTP server for local clients. Engines keep idle connections for 30 s and take a connection that we close
 * first for a failure, so ours stay open longer; and no request is cut off, however slow it is.
 */
export function httpServer(app: Express, tls?: TlsMaterial): Server {
  const limits = { keepAliveTimeout: 75_000, requestTimeout: 0, maxHeaderSize };
  if (tls === undefined) return createServer(limits, app);
  return createTlsServer({ ...limits, ...tls, requestCert: true, rejectUnauthorized: true }, app);
}

/** How long a connection stays open without a request when the daemon ends, in milliseconds. */
const leaveMs = 250;

/** Longest time that requests under way are waited for then, in milliseconds. */
const drainMs = 10_000;

/**
 * Ends a server: nobody can connect any more, requests under way are answered, and so are those that arrive on a
 * connection that an engine has kept; each answer then says that it is the last. A request that arrives just as its
 * connection is closed would fail, and dockerd repeats it without its body.
 * @param close stops listening, and resolves when the last connection is closed
 */
export async function drain(server: Server, close: () => Promise<void>): Promise<void> {
  server.prependListener('request', (_request, response) => response.setHeader('Connection', 'close'));
  const closing = close();
  const idle = setInterval(() => server.closeIdleConnections(), leaveMs);
  const timer = setTimeout(() => server.closeAllConnections(), drainMs);
  await closing;
  clearInterval(idle);
  clearTimeout(timer);
}
