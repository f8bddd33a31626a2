import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Express } from 'express';
import { httpServer } from '../../src/servers/http.ts';

/** What a server answered; undefined when it closed the connection without a word. */
export type Answer = { readonly status: number; readonly body: unknown } | undefined;

/** An application on a unix socket of its own. */
export interface Served {
  /** Sends these bytes, and gives back the first answer. A server that says nothing for a second has hung. */
  raw(request: string): Promise<Answer>;
  /** A call as dockerd makes it: no Content-Type, and an empty Host. */
  post(path: string, body?: unknown): Promise<Answer>;
  close(): Promise<void>;
}

/** Longest time until an answer must have begun, in milliseconds. */
const hangMs = 1_000;

/** The request of a client that sends nothing but what HTTP demands. */
export function request(method: string, path: string, body = '', headers: readonly string[] = []): string {
  const length = `Content-Length: ${Buffer.byteLength(body)}`;
  return [`${method} ${path} HTTP/1.1`, 'Host: ', length, 'Connection: close', ...headers, '', body].join(
    '\r\n',
  );
}

export async function serveApp(app: Express): Promise<Served> {
  const directory = await mkdtemp(join(tmpdir(), 'varve-socket-'));
  const socket = join(directory, 's.sock');
  const server = httpServer(app);
  await new Promise<void>(resolve => server.listen(socket, resolve));
  const raw = (text: string) => exchange(socket, text);
  return {
    raw,
    post: (path, body) => raw(request('POST', path, body === undefined ? '' : `${JSON.stringify(body)}\n`)),
    close: async () => {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
      await rm(directory, { recursive: true });
    },
  };
}

function exchange(socket: string, text: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const chunks: Buffer[] = [];
  const connection = connect(socket);
  connection.setTimeout(hangMs, () => connection.destroy(new Error(`no answer in ${hangMs} ms to ${text}`)));
  connection.on('data', chunk => chunks.push(chunk));
  // A server may answer and close before it has read everything.
  connection.on('error', error => (chunks.length > 0 || isClosing(error) ? undefined : reject(error)));
  connection.on('close', () => resolve(parse(Buffer.concat(chunks))));
  connection.write(text);
  return promise;
}

function isClosing(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function parse(bytes: Buffer): Answer {
  if (bytes.length === 0) return undefined;
  const end = bytes.indexOf('\r\n\r\n');
  const head = bytes.subarray(0, end).toString();
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
  const body = bytes.subarray(end + 4, end + 4 + length).toString();
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
  return { status, body: body === '' ? undefined : (JSON.parse(body) as unknown) };
}
