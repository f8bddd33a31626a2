import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VolumeView } from '../../../src/core/volumes/view.ts';

/** What an admin socket was asked. */
export interface Asked {
  readonly line: string;
  readonly body: unknown;
}

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
  /** Sent instead of a body in JSON. */
  readonly text?: string;
}

/** An http server on a unix socket that answers as a test says, for the client side of the admin API. */
export class AdminServer {
  readonly directory = mkdtempSync(join(tmpdir(), 'varve-cli-'));
  readonly socket = join(this.directory, 'admin.sock');
  readonly asked: Asked[] = [];
  /** Answers one request; undefined drops the connection, `silence` keeps it open. */
  answer: (line: string) => Answer | 'silence' | undefined = () => undefined;
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  async start(): Promise<void> {
    const listening = Promise.withResolvers<void>();
    this.#server.listen(this.socket, listening.resolve);
    await listening.promise;
  }

  async stop(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    this.#server.closeAllConnections();
    await closed.promise;
    rmSync(this.directory, { recursive: true });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = (await request.toArray()).join('');
    const line = `${request.method} ${request.url}`;
    this.asked.push({ line, body: text === '' ? undefined : JSON.parse(text) });
    const given = this.answer(line);
    if (given === undefined) {
      request.socket.destroy();
      return;
    }
    if (given === 'silence') return;
    response.statusCode = given.status;
    response.end(given.text ?? (given.body === undefined ? undefined : JSON.stringify(given.body)));
  }
}

/** A volume as the daemon shows it. */
export function volumeView(changes: Partial<VolumeView> = {}): VolumeView {
  return {
    name: 'db',
    driver: 'varve',
    pool: 'default',
    number: 1,
    mountPoint: '',
    createdAt: '2026-01-02T03:04:05Z',
    phase: 'Ready',
    health: 'ok',
    protected: false,
    options: {},
    labels: {},
    limitBytes: null,
    usage: null,
    consumers: [],
    containers: [],
    progress: null,
    ...changes,
  };
}
