import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import type { Blob, ByteSource } from '../../../src/core/ports.ts';
import {
  Aborted,
  DeadlineExceeded,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
  Unavailable,
} from '../../../src/errors/errors.ts';
import { Containerd } from '../../../src/host/linux/containerd.ts';
import { ContainerdClient } from '../../../src/host/linux/containerd-client.ts';
import { listenUnix } from '../../../src/host/linux/listen.ts';
import { peerPid } from '../../../src/host/linux/peer.ts';
import type { Logger } from '../../../src/lib/log.ts';
import { GrpcServer } from '../../../src/servers/grpc/server.ts';
import type { Handlers } from '../../../src/servers/grpc/service.ts';
import { Content, WriteAction } from '../../../src/wire/gen/containerd/services/content/v1/content_pb.ts';
import { Introspection } from '../../../src/wire/gen/containerd/services/introspection/v1/introspection_pb.ts';
import { Leases } from '../../../src/wire/gen/containerd/services/leases/v1/leases_pb.ts';
import { TestContainerd } from '../../support/containerd.ts';
import { rejection } from '../../support/rejection.ts';

const namespace = 'default';

describe('the content store of a real containerd', () => {
  let engine: TestContainerd;
  let client: ContainerdClient;
  let store: Containerd;
  let directory: string;

  before(async function () {
    this.timeout(120_000);
    directory = await mkdtemp(join(tmpdir(), 'varve-content-'));
    engine = await TestContainerd.start();
    client = new ContainerdClient(engine.socket);
    store = new Containerd(engine.socket);
  });
  after(async () => {
    client?.close();
    store?.close();
    await engine?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  const write = (bytes: AsyncIterable<Uint8Array>, ref: string, labels = {}) =>
    store.write(namespace, bytes, { ref, labels: () => labels });
  const labelsOf = async (blob: Blob) => (await client.service(Content, namespace).info(blob)).info?.labels;
  const expectNoIngest = async (ref: string) =>
    expect(await rejection(client.service(Content, namespace).status({ ref }))).to.be.instanceOf(NotFound);
  const isThere = async (blob: Blob) => (await engine.ctr('content', 'ls', '--quiet')).includes(blob.digest);

  describe('writing', () => {
    it('keeps the bytes with their labels, in whatever pieces they come', async () => {
      const whole = randomBytes(20 * 1024 * 1024);
      const parts = [whole.subarray(0, 1), whole.subarray(1, 70_000), whole.subarray(70_000)];
      const blob = await write(listOf(parts), 'pieces', { 'varve.test/a': 'x y' });
      expect(blob).to.deep.equal(blobOf(whole));
      const file = join(directory, 'blob');
      await engine.ctrTo(file, 'content', 'get', blob.digest);
      expect((await readFile(file)).equals(whole)).to.equal(true);
      expect(await labelsOf(blob)).to.deep.equal({ 'varve.test/a': 'x y' });
    });

    it('keeps no bytes at all as well', async () => {
      expect(await write(listOf([]), 'empty')).to.deep.equal(blobOf(Buffer.alloc(0)));
    });

    it('one that is there already is fine: it gets the labels that it lacks, and nothing else', async () => {
      const bytes = randomBytes(1000);
      await write(listOf([bytes]), 'first', { 'varve.test/a': '1' });
      const labels = { 'varve.test/a': '2', 'varve.test/b': '3' };
      expect(await write(listOf([bytes]), 'second', labels)).to.deep.equal(blobOf(bytes));
      expect(await labelsOf(blobOf(bytes))).to.deep.equal({ 'varve.test/a': '1', 'varve.test/b': '3' });
      await expectNoIngest('second');
    });

    it('asks for the labels when it has all bytes', async () => {
      let ended = false;
      const bytes = async function* () {
        yield randomBytes(10);
        ended = true;
      };
      const labels = () => ({ 'varve.test/ended': String(ended) });
      const blob = await store.write(namespace, bytes(), { ref: 'labels', labels });
      expect(await labelsOf(blob)).to.deep.equal({ 'varve.test/ended': 'true' });
    });

    it('starts anew where a write of the same name has been cut off', async () => {
      const call = client.service(Content, namespace).write();
      await call.ask({ action: WriteAction.WRITE, ref: 'again', data: Buffer.from('cut off') });
      call.end();
      const bytes = Buffer.from('whole');
      expect(await untilFree(() => write(listOf([bytes]), 'again'))).to.deep.equal(blobOf(bytes));
    });

    it('leaves alone what another writer of the same name has written', async () => {
      const call = client.service(Content, namespace).write();
      await call.ask({ action: WriteAction.WRITE, ref: 'taken', data: Buffer.from('theirs') });
      expect(await rejection(write(listOf([Buffer.from('ours')]), 'taken'))).to.be.instanceOf(Unavailable);
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield Buffer.from('ours');
        throw new FailedPrecondition('the layer is gone');
      };
      expect(await rejection(write(broken(), 'taken'))).to.be.instanceOf(FailedPrecondition);
      const { digest } = await call.ask({ action: WriteAction.COMMIT, ref: 'taken', offset: 6n, total: 6n });
      expect(digest).to.equal(blobOf(Buffer.from('theirs')).digest);
      call.end();
    });

    it('a failure of the bytes, or a cancelled write, leaves nothing', async () => {
      const broken = async function* () {
        yield randomBytes(2_000_000);
        throw new FailedPrecondition('the layer is gone');
      };
      expect((await rejection(write(broken(), 'broken'))).message).to.equal('the layer is gone');

      const abort = new AbortController();
      let isClosed = false;
      const endless = async function* () {
        try {
          for (let count = 0; ; count += 1) {
            if (count === 3) abort.abort(new Aborted('the client is gone'));
            yield randomBytes(2_000_000);
          }
        } finally {
          isClosed = true;
        }
      };
      const options = { ref: 'endless', labels: () => ({}), signal: abort.signal };
      const failure = await rejection(store.write(namespace, endless(), options));
      expect(failure.message).to.equal('the client is gone');
      expect(isClosed).to.equal(true);
      await expectNoIngest('broken');
      await expectNoIngest('endless');
    });
  });

  describe('garbage collection', () => {
    it('spares a blob that nobody refers to yet; without a lease of ours it would go', async () => {
      const kept = await write(listOf([randomBytes(100)]), 'kept');
      const bytes = randomBytes(100);
      const call = client.service(Content, namespace).write();
      await call.ask({ action: WriteAction.WRITE, ref: 'bare', data: bytes });
      await call.ask({ action: WriteAction.COMMIT, ref: 'bare', offset: 100n, total: 100n });
      call.end();
      await collect(engine);
      expect(await isThere(blobOf(bytes))).to.equal(false);
      expect(await isThere(kept)).to.equal(true);
      const { leases } = await client.service(Leases, namespace).list({});
      const expires = leases.map(({ labels }) => Date.parse(labels['containerd.io/gc.expire'] ?? ''));
      for (const time of expires) expect(time - Date.now()).to.be.within(50 * 60_000, 60 * 60_000);
    });

    it('many blobs share a lease; one that containerd has lost is replaced', async () => {
      await write(listOf([randomBytes(100)]), 'shared 1');
      const [lease] = (await client.service(Leases, namespace).list({})).leases;
      await Promise.all([2, 3, 4].map(number => write(listOf([randomBytes(100)]), `shared ${number}`)));
      expect((await client.service(Leases, namespace).list({})).leases.map(({ id }) => id)).to.deep.equal([
        lease?.id,
      ]);
      await engine.ctr('leases', 'delete', lease?.id ?? '');
      await rejection(write(listOf([randomBytes(100)]), 'lost'));
      const kept = await write(listOf([randomBytes(100)]), 'found');
      await collect(engine);
      expect(await isThere(kept)).to.equal(true);
    });

    it("takes what the client's own lease has kept when that ends, also a blob that was there", async () => {
      const lease = (await engine.ctr('leases', 'create')).trim();
      const bytes = randomBytes(100);
      const options = { ref: 'leased', labels: () => ({}), lease };
      const blob = await store.write(namespace, listOf([bytes]), options);
      const second = (await engine.ctr('leases', 'create')).trim();
      await store.write(namespace, listOf([bytes]), { ...options, ref: 'leased again', lease: second });
      await engine.ctr('leases', 'delete', '--sync', lease);
      expect(await isThere(blob)).to.equal(true);
      await engine.ctr('leases', 'delete', '--sync', second);
      expect(await isThere(blob)).to.equal(false);
    });
  });

  describe('reading', () => {
    let bytes: Buffer;
    let blob: Blob;

    before(async () => {
      bytes = randomBytes(5_000_000);
      blob = await write(listOf([bytes]), 'to read');
    });

    it('gives the file of the content store', async () => {
      const source = await store.read(namespace, blob);
      if (!('path' in source)) throw new Error('no file');
      expect(source.path.startsWith(`${engine.root}/`)).to.equal(true);
      expect((await readFile(source.path)).equals(bytes)).to.equal(true);
    });

    it('gives the bytes where we do not see the file, or see another one there', async () => {
      const [, hash = ''] = blob.digest.split(':');
      const wrong = join(directory, 'wrong');
      await mkdir(join(wrong, 'blobs/sha256'), { recursive: true });
      await writeFile(join(wrong, 'blobs/sha256', hash), 'half of it');
      for (const root of [wrong, '/varve/nowhere', 'relative', undefined]) {
        await throughProxy(client, root, async elsewhere => {
          const source = await elsewhere.read(namespace, blob);
          expect('path' in source, String(root)).to.equal(false);
          expect((await gather(source)).equals(bytes)).to.equal(true);
        });
      }
    });

    it('a blob of another namespace is not found, though its file is there', async () => {
      const failure = await rejection(store.read('elsewhere', blob));
      expect(failure).to.be.instanceOf(NotFound);
      expect(failure.message).to.match(/ has no blob sha256:.* in namespace elsewhere; pull or load/);
    });

    it('refuses a wrong size, and what is no digest', async () => {
      const { digest } = blob;
      expect(await rejection(store.read(namespace, { digest, size: 7 }))).to.be.instanceOf(
        FailedPrecondition,
      );
      for (const bad of ['', 'sha256:', 'sha256:../../etc/passwd', `../sha256:${'a'.repeat(64)}`]) {
        expect(await rejection(store.read(namespace, { digest: bad, size: 7 }))).to.be.instanceOf(
          InvalidArgument,
        );
      }
    });

    it('stops where the reader stops, and when the signal fires', async () => {
      await throughProxy(client, undefined, async elsewhere => {
        const abort = new AbortController();
        const source = await elsewhere.read(namespace, blob, abort.signal);
        if ('path' in source) throw new Error('no bytes');
        const reading = (async () => {
          for await (const _ of source) abort.abort(new Aborted('enough'));
        })();
        expect((await rejection(reading)).message).to.equal('enough');
        const second = await elsewhere.read(namespace, blob);
        if ('path' in second) throw new Error('no bytes');
        for await (const _ of second) break;
      });
    });
  });

  describe('its absence', () => {
    it('ends when it is started again: no call fails because an earlier one did', async () => {
      const bytes = randomBytes(100);
      await write(listOf([bytes]), 'before');
      await engine.kill9();
      expect(await rejection(store.read(namespace, blobOf(bytes)))).to.be.instanceOf(Unavailable);
      await engine.restart();
      await untilFree(() => store.read(namespace, blobOf(bytes)));
    });

    it('is Unavailable with a way out', async () => {
      const away = new Containerd(join(directory, 'none.sock'));
      const failure = await rejection(away.read(namespace, blobOf(Buffer.alloc(1))));
      expect(failure).to.be.instanceOf(Unavailable);
      expect(failure.message).to.match(
        /^containerd at .*none.sock does not answer: .*; start it, or correct/,
      );
      expect(
        await rejection(away.write(namespace, listOf([]), { ref: 'a', labels: () => ({}) })),
      ).to.be.instanceOf(Unavailable);
      away.close();
    });

    it('is noticed when it takes connections and says nothing', async () => {
      const path = join(directory, 'mute.sock');
      const server = createServer(socket => socket.resume());
      const sockets: Socket[] = [];
      server.on('connection', socket => sockets.push(socket));
      const close = await listenUnix(server, path, 0o600);
      const mute = new ContainerdClient(path);
      const content = mute.service(Content, namespace);
      const blob = { digest: `sha256:${'0'.repeat(64)}` };
      const asking = content.info(blob, { deadlineMs: 100 });
      expect(await rejection(asking)).to.be.instanceOf(DeadlineExceeded);
      const reading = content.read(blob, { deadlineMs: 100 })[Symbol.asyncIterator]().next();
      expect(await rejection(reading)).to.be.instanceOf(DeadlineExceeded);
      mute.close();
      for (const socket of sockets) socket.destroy();
      await close();
    });

    it('a content store that sends too little is no whole blob', async () => {
      const short = blobOf(Buffer.from('whole'));
      const handlers = {
        info: async () => ({ info: { ...short, size: 5n } }),
        async *read() {
          yield { data: Buffer.from('who') };
        },
      };
      await serving(directory, handlers, async path => {
        const half = new Containerd(path);
        const source = await half.read(namespace, short);
        const failure = await rejection(gather(source));
        expect(failure).to.be.instanceOf(Unavailable);
        expect(failure.message).to.include('has sent 3 of 5 bytes');
        half.close();
      });
    });
  });

  /** Reads through a server that hands on everything but where the files are. */
  async function throughProxy(
    real: ContainerdClient,
    root: string | undefined,
    act: (store: Containerd) => Promise<void>,
  ): Promise<void> {
    const content: Partial<Handlers<typeof Content>> = {
      info: (request, call) => real.service(Content, call.namespace).info(request),
      read: (request, call) => real.service(Content, call.namespace).read(request, { signal: call.signal }),
    };
    await serving(
      directory,
      content,
      async path => {
        const elsewhere = new Containerd(path);
        await act(elsewhere);
        elsewhere.close();
      },
      root,
    );
  }
});

/** Serves some methods of the content store on a socket of its own. */
async function serving(
  directory: string,
  content: Partial<Handlers<typeof Content>>,
  act: (path: string) => Promise<void>,
  root?: string,
): Promise<void> {
  const silent = { error() {}, warn() {}, info() {}, debug() {} } as unknown as Logger;
  const server = new GrpcServer({ ready: Promise.resolve(), log: silent, peerPid, debug: false });
  server.add(Content, content as Handlers<typeof Content>);
  const exports: Record<string, string> = root === undefined ? {} : { root };
  server.add(Introspection, {
    plugins: async () => ({ plugins: [{ type: 'io.containerd.content.v1', id: 'content', exports }] }),
  });
  const path = join(directory, 'content.sock');
  const close = await listenUnix(server.listener, path, 0o600);
  try {
    await act(path);
  } finally {
    await server.drain(close, 100);
  }
}

/** Has the garbage collected: whoever deletes a lease can wait for that. */
async function collect(engine: TestContainerd): Promise<void> {
  const lease = (await engine.ctr('leases', 'create')).trim();
  await engine.ctr('leases', 'delete', '--sync', lease);
}

/** Repeats what is refused while an ended call still holds its lock, or containerd is not back yet. */
function untilFree<T>(act: () => Promise<T>): Promise<T> {
  return until('containerd to be free', 10_000, () =>
    act().catch((error: unknown) => {
      if (error instanceof Unavailable) return undefined;
      throw error;
    }),
  );
}

async function* listOf(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

async function gather(source: ByteSource): Promise<Buffer> {
  if ('path' in source) throw new Error('a file, not bytes');
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

function blobOf(bytes: Buffer): Blob {
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, size: bytes.length };
}
