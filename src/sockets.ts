import { readFileSync } from 'node:fs';
import type { Server } from 'node:net';
import type { Express } from 'express';
import type { TcpConfig } from './config/schema.ts';
import { InvalidArgument } from './errors/errors.ts';
import { activatedSockets, listenFd, listenTcp, listenUnix } from './host/linux/listen.ts';
import type { GrpcServer } from './servers/grpc/server.ts';
import { drain, httpServer } from './servers/http.ts';

/** Ends a server, given what stops it from listening. */
type End = (close: () => Promise<void>) => Promise<void>;

/** The sockets of the daemon: those that systemd passed to it, by name, or else its own. */
export class Sockets {
  readonly #passed = new Map(activatedSockets(process.env, process.pid));
  readonly #ends: (() => Promise<void>)[] = [];

  /** @returns its address */
  serveHttp(app: Express, name: string, path: string): Promise<string> {
    const server = httpServer(app);
    return this.#listen(server, close => drain(server, close), name, path);
  }

  /** @returns its address */
  serveGrpc(server: GrpcServer, name: string, path: string): Promise<string> {
    return this.#listen(server.listener, close => server.drain(close), name, path);
  }

  /** @returns its address */
  async serveTcp(app: Express, { address, tls }: TcpConfig): Promise<string> {
    const read = (path: string): string => readFileSync(path, 'utf8');
    const material = tls && { cert: read(tls.certFile), key: read(tls.keyFile), ca: read(tls.caFile) };
    const server = httpServer(app, material);
    const close = await listenTcp(server, address);
    this.#ends.push(() => drain(server, close));
    return `tcp://${address}${tls === undefined ? ' (no TLS)' : ''}`;
  }

  /** @throws InvalidArgument when systemd passed one that nothing is served on */
  requireNoneLeft(): void {
    const [stranger] = this.#passed.keys();
    if (stranger === undefined) return;
    throw new InvalidArgument(
      `systemd passed a socket named ${stranger}, which no driver or snapshotter has; FileDescriptorName= in its unit is the name of a driver, snapshotter/NAME, or admin`,
    );
  }

  /** Ends all servers: what is under way is answered. */
  async close(): Promise<void> {
    await Promise.all(this.#ends.map(end => end()));
  }

  async #listen(server: Server, end: End, name: string, path: string): Promise<string> {
    const fd = this.#passed.get(name);
    this.#passed.delete(name);
    const close = fd === undefined ? await listenUnix(server, path, 0o600) : await listenFd(server, fd);
    this.#ends.push(() => end(close));
    return fd === undefined ? `unix://${path}` : `systemd socket ${name}`;
  }
}
