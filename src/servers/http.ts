import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Express } from 'express';

/** PEM texts for a server that only clients with a certificate of `ca` can talk to. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/**
 * An HTTP server for local clients. Engines keep idle connections for 30 s and take a connection that we close
 * first for a failure, so ours stay open longer; and no request is cut off, however slow it is.
 */
export function httpServer(app: Express, tls?: TlsMaterial): Server {
  const timeouts = { keepAliveTimeout: 75_000, requestTimeout: 0 };
  if (tls === undefined) return createServer(timeouts, app);
  return createTlsServer({ ...timeouts, ...tls, requestCert: true, rejectUnauthorized: true }, app);
}
