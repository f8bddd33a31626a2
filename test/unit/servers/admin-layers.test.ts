import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { type AdminClient, adminClient } from '../../../src/cli/client.ts';
import type { CopyProgress } from '../../../src/core/ports.ts';
import * as errors from '../../../src/errors/errors.ts';
import { type AdminParts, adminApp } from '../../../src/servers/admin/admin.ts';
import { httpServer } from '../../../src/servers/http.ts';
import { FakeLayerStore, trash, verification } from '../../support/fake-layer-store.ts';
import { layerFace } from '../../support/layer-face.ts';
import { rejection } from '../../support/rejection.ts';

const mebibyte = Buffer.alloc(1024 ** 2, 'x');

describe('layers on the admin socket', () => {
  let directory: string;
  let server: Server;
  let store: FakeLayerStore;
  let other: FakeLayerStore;
  let client: AdminClient;
  let socketPath: string;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'varve-layers-'));
    socketPath = join(directory, 'admin.sock');
    store = new FakeLayerStore();
    other = new FakeLayerStore();
    const parts = { ...layerFace({ default: store, other }), ready: Promise.resolve() };
    server = httpServer(adminApp(parts as unknown as AdminParts));
    server.listen(socketPath);
    await once(server, 'listening');
    client = adminClient(socketPath, { promptly: 5_000, patiently: 10_000 });
  });

  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    rmSync(directory, { recursive: true });
  });

  const pieces = async function* (...texts: readonly (string | Buffer)[]): AsyncGenerator<Uint8Array> {
    for (const text of texts) yield Buffer.from(text);
  };
  const textOf = async (archive: AsyncIterable<Uint8Array>): Promise<string> => {
    const all: Uint8Array[] = [];
    for await (const piece of archive) all.push(piece);
    return Buffer.concat(all).toString();
  };

  /** Sends a request, and goes away once the daemon is as far as `reached`; the daemon knows it then. */
  const goneMeanwhile = async (
    { body, ...options }: { method?: string; path: string; body?: string },
    reached: Promise<void>,
  ): Promise<void> => {
    const received = once(server, 'request') as Promise<[unknown, ServerResponse]>;
    const asked = request({ socketPath, ...options });
    asked.on('error', () => undefined);
    if (body === undefined) asked.end();
    else asked.write(body);
    const [, response] = await received;
    await reached;
    asked.destroy();
    await until('the daemon to know', 5_000, () => response.destroyed);
  };

  describe('lists and shows', () => {
    beforeEach(() => {
      store.add('base');
      store.add('moby/1/a b:%2F é', { kind: 'active', parent: 'base', usage: null });
      other.add('elsewhere');
    });

    it('those of every store, of one, and those that a filter lets through', async () => {
      const names = async (options: object) => (await client.layers.list(options)).map(({ name }) => name);
      expect(await names({})).to.deep.equal(['base', 'moby/1/a b:%2F é', 'elsewhere']);
      expect(await names({ store: 'other' })).to.deep.equal(['elsewhere']);
      expect(await names({ filters: ['kind==active', 'labels."a b"'] })).to.deep.equal(['moby/1/a b:%2F é']);
    });

    it('one by its name, with every character that a key may hold', async () => {
      const details = await client.layers.details('moby/1/a b:%2F é');
      expect(details).to.include({ name: 'moby/1/a b:%2F é', store: 'default' });
      expect(details.beneath).to.deep.equal(['base']);
      expect((await client.layers.details('else')).name).to.equal('elsewhere');
    });

    it('not one that is not there', async () => {
      for (const asked of [
        client.layers.details('5'),
        client.layers.details('base', { store: 'other' }),
        client.layers.list({ store: 'x' }),
        client.layers.space({ store: 'x' }),
        client.layers.collect({ store: 'x', dryRun: false }),
        client.layers.remove('5'),
        client.layers.changes('base', { base: '5' }),
        client.layers.export('5'),
        client.layers.verify('5', {}, () => undefined),
        client.layers.import(pieces(), { parent: '5', name: 'x' }),
      ]) {
        expect(await rejection(asked)).to.be.instanceOf(errors.NotFound);
      }
    });

    it('where the space is, and deletes what is garbage', async () => {
      await client.layers.remove('elsewhere');
      const [, space] = await client.layers.space();
      expect(space?.totals).to.include({ own: 0, reclaimable: 10, total: 10 });
      const items = [{ store: 'other', ...trash(1, 10, 'elsewhere') }];
      expect(await client.layers.collect({ dryRun: true })).to.deep.equal({ items, left: 0 });
      expect(await client.layers.collect({ store: 'default', dryRun: false })).to.deep.equal({
        items: [],
        left: 0,
      });
      expect(await client.layers.collect({ dryRun: false })).to.deep.equal({ items, left: 0 });
      expect(other.found).to.deep.equal([]);
    });

    it('refuses to remove what others rest on', async () => {
      expect(await rejection(client.layers.remove('base'))).to.be.instanceOf(errors.FailedPrecondition);
    });

    it('changes against the parent, another layer, or nothing', async () => {
      store.changed = [{ path: '/a', kind: 'added', bytes: 3 }];
      expect(await client.layers.changes('moby')).to.deep.equal(store.changed);
      await client.layers.changes('moby', { base: 'bas' });
      await client.layers.changes('moby', { base: '' });
      const key = 'moby/1/a b:%2F é';
      expect(store.compared).to.deep.equal([
        ['base', key],
        ['base', key],
        [null, key],
      ]);
    });

    it('one whose name is as long as it may be, each byte percent-encoded, and what it is compared with', async () => {
      const names = [
        'é'.repeat(2048),
        '😀'.repeat(1024),
        '/'.repeat(4096),
        '\x01'.repeat(4096),
        '.',
        '..',
        '%',
      ];
      for (const name of names) {
        store.add(name);
        expect((await client.layers.details(name)).name).to.equal(name);
        await client.layers.changes(name, { base: name });
        expect(store.compared.at(-1)).to.deep.equal([name, name]);
        await client.layers.remove(name);
        expect(store.infos.has(name)).to.equal(false);
      }
    });

    it('not one without a name', async () => {
      for (const asked of [client.layers.details(''), client.layers.remove(''), client.layers.export('')]) {
        const error = await rejection(asked);
        expect(error).to.be.instanceOf(errors.InvalidArgument);
        expect(error.message).to.include('the name of the layer is empty');
      }
    });

    it('removes only what is named in full, or by its digest', async () => {
      const name = `sha256:${'5'.repeat(64)}`;
      store.add(name);
      for (const start of ['mob', 'moby/1/a', '55555', 'sha256:55555555555']) {
        expect(await rejection(client.layers.remove(start))).to.be.instanceOf(errors.NotFound);
      }
      expect(store.infos.size).to.equal(3);
      await client.layers.remove('555555555555');
      expect(store.infos.has(name)).to.equal(false);
    });

    it('refuses a question that is asked twice', async () => {
      const path = '/v1/layers?store=a&store=b';
      const asked = request({ socketPath, path }).end();
      const [answer] = (await once(asked, 'response')) as [{ statusCode: number; resume(): void }];
      answer.resume();
      expect(answer.statusCode).to.equal(400);
    });
  });

  describe('verify', () => {
    beforeEach(() => store.add('base'));

    it('says how far it is, and what it found', async () => {
      const goOn = Promise.withResolvers<void>();
      store.onVerify = async ({ onProgress }) => {
        onProgress?.({ doneBytes: 1, totalBytes: 2 });
        await goOn.promise;
        return verification;
      };
      const seen: CopyProgress[] = [];
      const result = client.layers.verify('base', {}, progress => {
        seen.push(progress);
        goOn.resolve();
      });
      expect(await result).to.deep.equal(verification);
      expect(seen).to.deep.equal([{ doneBytes: 1, totalBytes: 2 }]);
    });

    it('that fails in the middle has the error of the daemon', async () => {
      store.onVerify = async ({ onProgress }) => {
        onProgress?.({ doneBytes: 1, totalBytes: 2 });
        throw new errors.Unavailable('the disk is gone');
      };
      const error = await rejection(client.layers.verify('base', {}, () => undefined));
      expect(error).to.be.instanceOf(errors.Unavailable);
      expect(error.message).to.equal('the disk is gone');
    });

    it('of a layer that is not committed is refused', async () => {
      store.add('key', { kind: 'active' });
      const error = await rejection(client.layers.verify('key', {}, () => undefined));
      expect(error).to.be.instanceOf(errors.FailedPrecondition);
    });

    it('stops when nobody waits for it any more', async () => {
      const stopped = Promise.withResolvers<void>();
      store.onVerify = async ({ signal, onProgress }) => {
        onProgress?.({ doneBytes: 1, totalBytes: 2 });
        await once(signal as AbortSignal, 'abort');
        stopped.resolve();
        throw new errors.Aborted('it was stopped');
      };
      const asked = request({ socketPath, method: 'POST', path: '/v1/layers/base/verify' });
      asked.on('error', () => undefined);
      asked.end();
      await once(asked, 'response');
      asked.destroy();
      await stopped.promise;
      expect(await client.layers.list()).to.have.length(1);
    });
  });

  describe('export', () => {
    beforeEach(() => store.add('base'));

    it('sends the archive as it comes', async () => {
      store.diffPieces = () => pieces('a', mebibyte, 'z');
      expect(await textOf(await client.layers.export('base'))).to.have.length(2 + 1024 ** 2);
    });

    it('that fails before its first byte has the error of the daemon', async () => {
      const next = () => Promise.reject(new errors.FailedPrecondition('the layer is damaged'));
      store.diffPieces = () => ({ [Symbol.asyncIterator]: () => ({ next }) });
      expect(await rejection(client.layers.export('base'))).to.be.instanceOf(errors.FailedPrecondition);
    });

    it('that fails later is broken off, so that nobody takes it for the whole', async () => {
      store.diffPieces = async function* () {
        yield mebibyte;
        throw new errors.Unavailable('the disk is gone');
      };
      const error = await rejection(client.layers.export('base').then(textOf));
      expect(error).to.be.instanceOf(errors.Unavailable);
      expect(error.message).to.include('broke off GET /v1/layers/base/diff');
    });

    it('waits for a reader that is slow, and ends when it goes away', async () => {
      let sent = 0;
      let hasEnded = false;
      store.diffPieces = async function* () {
        try {
          for (; sent < 1000; sent += 1) yield mebibyte;
        } finally {
          hasEnded = true;
        }
      };
      const asked = request({ socketPath, path: '/v1/layers/base/diff' });
      asked.on('error', () => undefined);
      asked.end();
      await once(asked, 'response');
      expect(sent).to.be.below(50);
      asked.destroy();
      await until('the export to end', 5_000, () => hasEnded);
      expect(sent).to.be.below(50);
    });

    it('ends although its reader was gone when the first piece was there', async () => {
      const reached = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      let hasEnded = false;
      store.diffPieces = async function* () {
        try {
          reached.resolve();
          await goOn.promise;
          yield mebibyte;
          yield mebibyte;
        } finally {
          hasEnded = true;
        }
      };
      await goneMeanwhile({ path: '/v1/layers/base/diff' }, reached.promise);
      goOn.resolve();
      await until('the export to end', 5_000, () => hasEnded);
    });

    it('is told to stop although its reader was gone before it began', async () => {
      const reached = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      const stat = store.stat.bind(store);
      store.stat = async key => {
        reached.resolve();
        await goOn.promise;
        return stat(key);
      };
      const told = Promise.withResolvers<boolean>();
      store.onDiff = ({ signal }) => told.resolve(signal?.aborted === true);
      await goneMeanwhile({ path: '/v1/layers/base/diff' }, reached.promise);
      goOn.resolve();
      expect(await told.promise).to.equal(true);
    });
  });

  describe('import', () => {
    it('whose client is gone before the archive is read leaves nothing', async () => {
      const reached = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      const prepare = store.prepare.bind(store);
      store.prepare = async (key, options) => {
        reached.resolve();
        await goOn.promise;
        return prepare(key, options);
      };
      const removed = Promise.withResolvers<void>();
      const remove = store.remove.bind(store);
      store.remove = async key => {
        await remove(key);
        removed.resolve();
      };
      const asked = { method: 'POST', path: '/v1/layers?name=base', body: 'half of an arch' };
      await goneMeanwhile(asked, reached.promise);
      goOn.resolve();
      await removed.promise;
      expect(store.infos.size).to.equal(0);
    });

    it('makes a layer of what is sent, which need not be JSON', async () => {
      const made = await client.layers.import(pieces('{', mebibyte), { name: 'base' });
      expect(made).to.include({ name: 'base', kind: 'committed', store: 'default' });
      expect(store.applied[0]).to.have.length(1 + 1024 ** 2);
      await client.layers.import(pieces('a'), { store: 'other', name: 'base' });
      expect(other.infos.has('base')).to.equal(true);
    });

    it('reads no faster than the layer is made', async () => {
      const goOn = Promise.withResolvers<void>();
      store.onApply = () => goOn.promise;
      let sent = 0;
      const endless = async function* (): AsyncGenerator<Uint8Array> {
        for (; sent < 40; sent += 1) yield mebibyte;
      };
      const made = client.layers.import(endless(), { name: 'base' });
      await until('the first piece to be read', 5_000, () => store.infos.size === 1);
      for (let turn = 0; turn < 100; turn += 1) await new Promise(setImmediate);
      expect(sent).to.be.below(30);
      goOn.resolve();
      await made;
      expect(sent).to.equal(40);
    });

    it('that is refused tells why, although the rest was not read, and leaves nothing', async () => {
      store.onApply = async () => {
        throw new errors.InvalidArgument('the archive is hostile');
      };
      const many = async function* (): AsyncGenerator<Uint8Array> {
        for (let at = 0; at < 200; at += 1) yield mebibyte;
      };
      const error = await rejection(client.layers.import(many(), { name: 'base' }));
      expect(error).to.be.instanceOf(errors.InvalidArgument);
      expect(error.message).to.equal('the archive is hostile');
      expect(store.infos.size).to.equal(0);
      store.add('taken');
      expect(await rejection(client.layers.import(many(), { name: 'taken' }))).to.be.instanceOf(
        errors.AlreadyExists,
      );
    });

    it('that its client breaks off leaves nothing', async () => {
      const asked = request({ socketPath, method: 'POST', path: '/v1/layers?name=base' });
      asked.on('error', () => undefined);
      asked.write('half of an arch');
      await until('the import to begin', 5_000, () => store.infos.size === 1);
      asked.destroy();
      await until('the import to be given up', 5_000, () => store.infos.size === 0);
      expect(await client.layers.list()).to.deep.equal([]);
    });

    it('whose source fails is given up with the reason of the source', async () => {
      const failing = async function* (): AsyncGenerator<Uint8Array> {
        yield mebibyte;
        throw new errors.Unavailable('cannot read a.tar: the disk failed');
      };
      const error = await rejection(client.layers.import(failing(), { name: 'base' }));
      expect(error.message).to.equal('cannot read a.tar: the disk failed');
      await until('the import to be given up', 5_000, () => store.infos.size === 0);
    });
  });
});
