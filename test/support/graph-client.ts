import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { expect } from 'chai';
import { post } from './daemon.ts';

export interface GraphChange {
  readonly Path: string;
  /** 0 modified, 1 added, 2 deleted. */
  readonly Kind: number;
}

interface Response {
  readonly Err?: string;
  readonly Dir?: string;
  readonly Exists?: boolean;
  readonly Status?: readonly (readonly [string, string])[];
  readonly Changes?: readonly GraphChange[];
  readonly Size?: number;
  readonly Metadata?: Readonly<Record<string, string>>;
}

/** A call that the plugin refused. */
class Refused extends Error {}

/** Talks to a graph driver plugin as dockerd does (moby, daemon/graphdriver/proxy.go). */
export class GraphClient {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  /** @throws Refused */
  async call(method: string, body: object = {}): Promise<Response> {
    const answer = await post(this.#socket, `GraphDriver.${method}`, body);
    const response = answer.body as Response;
    if (answer.status === 200 && response.Err === undefined) return response;
    throw new Refused(response.Err);
  }

  async init(): Promise<void> {
    await this.call('Init', { Home: '/nowhere/varve', Opts: [], UIDMaps: null, GIDMaps: null });
  }

  async create(ID: string, Parent = ''): Promise<void> {
    await this.call('Create', { ID, Parent });
  }

  async createReadWrite(
    ID: string,
    Parent = '',
    StorageOpt: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    await this.call('CreateReadWrite', { ID, Parent, StorageOpt });
  }

  async get(ID: string): Promise<string> {
    const { Dir } = await this.call('Get', { ID });
    expect(Dir).to.be.a('string');
    return Dir ?? '';
  }

  async put(ID: string): Promise<void> {
    await this.call('Put', { ID });
  }

  async remove(ID: string): Promise<void> {
    await this.call('Remove', { ID });
  }

  async exists(ID: string): Promise<boolean> {
    return (await this.call('Exists', { ID })).Exists === true;
  }

  async changes(ID: string, Parent: string): Promise<readonly GraphChange[]> {
    return (await this.call('Changes', { ID, Parent })).Changes ?? [];
  }

  async diffSize(ID: string, Parent: string): Promise<number> {
    return (await this.call('DiffSize', { ID, Parent })).Size ?? -1;
  }

  /** Does something with a layer while it is mounted. */
  async within<T>(id: string, act: (path: string) => T | Promise<T>): Promise<T> {
    const path = await this.get(id);
    try {
      return await act(path);
    } finally {
      await this.put(id);
    }
  }

  /** The body of a Diff, as it comes. @throws Refused before its first byte */
  async stream(ID: string, Parent: string): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const call = request({ socketPath: this.#socket, path: '/GraphDriver.Diff', method: 'POST' }, resolve);
    call.on('error', reject);
    call.end(`${JSON.stringify({ ID, Parent })}\n`);
    const response = await promise;
    if (response.statusCode === 200) return response;
    throw new Refused((JSON.parse(await textOf(response)) as Response).Err);
  }

  async diff(id: string, parent: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of await this.stream(id, parent)) pieces.push(piece as Buffer);
    return Buffer.concat(pieces);
  }

  /** Sends an archive in pieces, of which nobody knows the length beforehand. @returns the size that it answers */
  async applyDiff(
    id: string,
    parent: string,
    archive: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  ): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const call = this.beginApply(id, parent, resolve);
    call.on('error', reject);
    // A refusal may come before everything was read.
    await pipeline(Readable.from(archive), call).catch(() => undefined);
    const response = await promise;
    const answer = JSON.parse(await textOf(response)) as Response;
    if (response.statusCode !== 200) throw new Refused(answer.Err);
    return answer.Size ?? -1;
  }

  beginApply(id: string, parent: string, onResponse: (response: IncomingMessage) => void): ClientRequest {
    const path = `/GraphDriver.ApplyDiff?id=${id}&parent=${parent}`;
    const headers = { Accept: 'application/vnd.docker.plugins.v1.2+json' };
    return request({ socketPath: this.#socket, path, method: 'POST', headers }, onResponse);
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const piece of response) text += String(piece);
  return text;
}
