import { existsSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { expect } from 'chai';
import * as errors from '../../../src/errors/errors.ts';
import { toGrpc } from '../../../src/errors/to-grpc.ts';
import { listenFd, listenUnix } from '../../../src/host/linux/listen.ts';
import { peerPid } from '../../../src/host/linux/peer.ts';
import type { Logger } from '../../../src/lib/log.ts';
import { GrpcServer } from '../../../src/servers/grpc/server.ts';
import type { Call, Handlers, ServiceOptions } from '../../../src/servers/grpc/service.ts';
import { Diff } from '../../../src/wire/gen/containerd/services/diff/v1/diff_pb.ts';
import {
  Snapshots,
  StatSnapshotRequestSchema,
  StatSnapshotResponseSchema,
} from '../../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { maxMessageSize } from '../../../src/wire/method.ts';
import { sizeOf, TestGrpcClient } from '../../support/grpc-client.ts';
import { holdSocket } from '../../support/held-socket.ts';
import { rejection } from '../../support/rejection.ts';

const { prepare, stat, list, usage } = Snapshots.method;

const codes = [
  [errors.InvalidArgument, 3],
  [errors.DeadlineExceeded, 4],
  [errors.NotFound, 5],
  [errors.AlreadyExists, 6],
  [errors.Exhausted, 8],
  [errors.FailedPrecondition, 9],
  [errors.Aborted, 10],
  [errors.Unimplemented, 12],
  [errors.Internal, 13],
  [errors.Unavailable, 14],
] as const;

const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;
const RESOURCE_EXHAUSTED = 8;
const UNIMPLEMENTED = 12;

describe('the gRPC server', () => {
  let directory: string;
  let path: string;
  let client: TestGrpcClient;
  let close: () => Promise<void>;
  let lines: string[];
  let pids: number[];
  let closed: boolean;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'varve-grpc-'));
    path = join(directory, 'x.sock');
  });
  after(() => rm(directory, { recursive: true, force: true }));

  beforeEach(() => {
    lines = [];
    pids = [];
    closed = true;
  });
  afterEach(async () => {
    client.close();
    if (!closed) await close();
  });

  async function serve(
    handlers: Partial<Handlers<typeof Snapshots>>,
    options: ServiceOptions<typeof Snapshots> = {},
    ready: Promise<void> = Promise.resolve(),
  ): Promise<GrpcServer> {
    const server = new GrpcServer({ ready, log: logInto(lines), peerPid: () => pids.shift(), debug: true });
    server.add(Snapshots, handlers as Handlers<typeof Snapshots>, options);
    const stop = await listenUnix(server.listener, path, 0o600);
    close = () => server.drain(stop);
    closed = false;
    client = new TestGrpcClient(path);
    return server;
  }

  describe('failures', () => {
    for (const [ErrorClass, code] of codes) {
      it(`${new ErrorClass('').code} is status ${code}, with the text`, async () => {
        const text = 'snapshot "a/1/ü%2f": no\ntry again';
        await serve({ stat: () => Promise.reject(new ErrorClass(text)) });
        expect(await client.failure(stat, { key: 'a' })).to.deep.equal({ code, details: text });
      });
    }

    it('what is none of ours is Internal, and half of a character does not get lost', async () => {
      await serve({ stat: () => Promise.reject(new TypeError('x is undefined: \ud800')) });
      const answer = { code: 13, details: 'x is undefined: \ufffd' };
      expect(await client.failure(stat, { key: 'a' })).to.deep.equal(answer);
      expect(toGrpc('text')).to.deep.equal({ code: 13, details: 'text' });
    });

    it('a failure that is thrown at once, and one in the middle of a stream, arrive as well', async () => {
      await serve({
        stat: () => {
          throw new errors.NotFound('no a');
        },
        async *list() {
          yield { info: [{ name: 'a' }] };
          throw new errors.Unavailable('the disk failed');
        },
      });
      expect(await client.failure(stat, { key: 'a' })).to.deep.equal({ code: 5, details: 'no a' });
      const names: string[] = [];
      const reading = (async () => {
        for await (const { info } of client.stream(list, {})) names.push(info[0].name);
      })();
      expect(await rejection(reading)).to.include({ code: 14, details: 'the disk failed' });
      expect(names).to.deep.equal(['a']);
    });

    it('a service that is not served is not implemented', async () => {
      await serve({});
      expect((await client.failure(Diff.method.apply, {})).code).to.equal(UNIMPLEMENTED);
    });

    it('those that clients expect are no warnings; the log never holds the maps of a request', async () => {
      const failures = [new errors.NotFound('no a'), new errors.Exhausted('no space')];
      await serve({
        stat: () => Promise.reject(failures.shift() ?? new Error('no more')),
        prepare: async () => ({}),
      });
      await client.failure(stat, { key: 'a' });
      await client.failure(stat, { key: 'a' });
      await client.ask(prepare, { key: 'k8s.io/7/a b', labels: { secret: 'hidden' } });
      expect(lines.filter(line => line.startsWith('warn'))).to.deep.equal(['warn Snapshots.Stat: no space']);
      expect(lines.at(-1)).to.match(/^debug Snapshots.Prepare key="k8s.io\/7\/a b": done \(\d+\.\d ms\)$/);
      expect(lines.join('\n')).not.to.include('hidden');
    });
  });

  it('warns when a second process connects while the first one is there', async () => {
    await serve({ usage: async () => ({}) });
    pids = [7, 7, 8, 9];
    const warnings = () => lines.filter(line => line.startsWith('warn'));
    const others = [1, 2].map(() => new TestGrpcClient(path));
    await client.ask(usage, { key: 'a' });
    for (const other of others) await other.ask(usage, { key: 'a' });
    expect(warnings()).to.have.lengthOf(1);
    expect(warnings()[0]).to.match(/^warn processes 7 and 8 use one socket, /);
    for (const other of others) other.close();
  });

  describe('time', () => {
    it('a hung call is answered when its time is up, and keeps nobody else waiting', async () => {
      let seen: Call | undefined;
      const options = { deadlineMs: 100 };
      await serve(
        {
          stat: (_request, call) => {
            seen = call;
            return new Promise(() => {});
          },
          usage: async () => ({ size: 7n }),
        },
        options,
      );
      const hung = client.failure(stat, { key: 'a' });
      expect(await client.ask(usage, { key: 'a' })).to.include({ size: 7n });
      expect(await hung).to.deep.equal({
        code: DEADLINE_EXCEEDED,
        details: 'Snapshots.Stat took longer than 0.1 s; try again',
      });
      expect(seen?.signal.aborted).to.equal(true);
      expect(seen?.signal.reason).to.be.instanceOf(errors.DeadlineExceeded);
    });

    it('what is done or fails after its time is in the log, unless it stops as it was told', async () => {
      const outcomes = [
        { key: 'done', late: Promise.withResolvers<object>() },
        { key: 'failed', late: Promise.withResolvers<object>() },
      ];
      await serve(
        {
          stat: async ({ key }, { signal }) => {
            const outcome = outcomes.find(found => found.key === key);
            if (outcome !== undefined) return outcome.late.promise;
            return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
          },
        },
        { deadlineMs: 50 },
      );
      for (const key of ['stopped', 'done', 'failed']) await client.failure(stat, { key });
      const before = lines.filter(line => line.startsWith('warn'));
      expect(before).to.deep.equal(
        Array(3).fill('warn Snapshots.Stat: Snapshots.Stat took longer than 0.05 s; try again'),
      );
      outcomes[0]?.late.resolve({});
      outcomes[1]?.late.reject(new errors.Exhausted('no space'));
      await client.failure(stat, { key: 'stopped' });
      const after = lines.filter(line => line.startsWith('warn')).slice(3, 5);
      expect(after).to.deep.equal([
        'warn Snapshots.Stat key="done": done, and its client does not know; it may try again',
        'warn Snapshots.Stat: no space',
      ]);
    });

    it('a method without a limit takes as long as it needs', async () => {
      const late = Promise.withResolvers<object>();
      await serve(
        { stat: () => new Promise(() => {}), usage: () => late.promise },
        { deadlineMs: 50, unlimited: ['usage'] },
      );
      const patient = client.ask(usage, { key: 'a' });
      for (let time = 0; time < 3; time += 1) {
        expect((await client.failure(stat, { key: 'a' })).code).to.equal(DEADLINE_EXCEEDED);
      }
      late.resolve({ size: 1n });
      expect(await patient).to.include({ size: 1n });
    });

    it('calls wait until the server is ready, no longer than for anything else', async () => {
      const ready = Promise.withResolvers<void>();
      const asked: string[] = [];
      const note = async ({ key }: { readonly key: string }) => {
        asked.push(key);
        return {};
      };
      await serve({ usage: note, stat: note }, { deadlineMs: 50, unlimited: ['usage'] }, ready.promise);
      const patient = client.ask(usage, { key: 'patient' });
      expect((await client.failure(stat, { key: 'a' })).code).to.equal(DEADLINE_EXCEEDED);
      expect(asked).to.deep.equal([]);
      ready.resolve();
      await patient;
      expect(asked).to.include('patient');
    });

    it("a handler hears of the client's own deadline", async () => {
      const heard = Promise.withResolvers<unknown>();
      await serve({ stat: (_request, { signal }) => hangUntil(signal, heard.resolve) });
      const { code } = await client.failure(stat, { key: 'a' }, { deadlineMs: 100 });
      expect(code).to.equal(DEADLINE_EXCEEDED);
      expect(await heard.promise).to.be.instanceOf(errors.Aborted);
    });

    it('a handler hears that its client has cancelled the call', async () => {
      const began = Promise.withResolvers<void>();
      const heard = Promise.withResolvers<unknown>();
      await serve({
        stat: (_request, { signal }) => {
          began.resolve();
          return hangUntil(signal, heard.resolve);
        },
      });
      const { call, answer } = client.start(stat, { key: 'a' });
      await began.promise;
      call.cancel();
      expect(await rejection(answer)).to.include({ code: CANCELLED });
      expect(await heard.promise).to.be.instanceOf(errors.Aborted);
    });

    it('a handler hears that its client is gone; nothing fires after an answer', async () => {
      const began = Promise.withResolvers<void>();
      const heard = Promise.withResolvers<unknown>();
      const signals: AbortSignal[] = [];
      await serve({
        usage: async (_request, { signal }) => {
          signals.push(signal);
          return {};
        },
        stat: (_request, { signal }) => {
          began.resolve();
          return hangUntil(signal, heard.resolve);
        },
      });
      await client.ask(usage, { key: 'a' });
      const second = new TestGrpcClient(path);
      const { call, answer } = second.start(stat, { key: 'a' });
      await began.promise;
      call.cancel();
      second.close();
      await rejection(answer);
      expect(await heard.promise).to.be.instanceOf(errors.Aborted);
      expect(signals.map(({ aborted }) => aborted)).to.deep.equal([false]);
    });
  });

  describe('messages', () => {
    it('a handler gets the namespace, and undefined without one', async () => {
      const seen: (string | undefined)[] = [];
      await serve({
        stat: async (_request, { namespace }) => {
          seen.push(namespace);
          return {};
        },
      });
      await client.ask(stat, { key: 'a' }, { metadata: { 'containerd-namespace': 'k8s.io' } });
      await client.ask(stat, { key: 'a' });
      expect(seen).to.deep.equal(['k8s.io', undefined]);
    });

    it('one of 16 MiB passes either way; one byte more is refused, and the connection lives on', async () => {
      const filler = (length: number) => ({ key: 'x'.repeat(length) });
      const rest =
        maxMessageSize -
        sizeOf(StatSnapshotRequestSchema, create(StatSnapshotRequestSchema, filler(maxMessageSize)));
      const largest = maxMessageSize + rest;
      let name = '';
      await serve({
        stat: async ({ key }) => ({ info: { name: key === 'answer' ? name : `${key.length}` } }),
      });
      const whole = await client.ask(stat, filler(largest));
      expect(whole.info?.name).to.equal(`${largest}`);
      expect((await client.failure(stat, filler(largest + 1))).code).to.equal(RESOURCE_EXHAUSTED);

      const answerSize = (length: number) =>
        sizeOf(
          StatSnapshotResponseSchema,
          create(StatSnapshotResponseSchema, { info: { name: 'x'.repeat(length) } }),
        );
      name = 'x'.repeat(2 * maxMessageSize - answerSize(maxMessageSize));
      expect((await client.ask(stat, { key: 'answer' })).info?.name).to.have.lengthOf(name.length);
      name += 'x';
      expect((await client.failure(stat, { key: 'answer' })).code).to.equal(RESOURCE_EXHAUSTED);
      expect((await client.ask(stat, { key: 'abc' })).info?.name).to.equal('3');
    });
  });

  describe('streams', () => {
    it('one of 1000 answers arrives whole and in order', async () => {
      await serve({
        async *list() {
          for (let index = 0; index < 1000; index += 1) yield { info: [{ name: `${index}` }] };
        },
      });
      const names: string[] = [];
      for await (const { info } of client.stream(list, {})) names.push(info[0].name);
      expect(names).to.deep.equal(Array.from({ length: 1000 }, (_, index) => `${index}`));
    });

    it('a slow reader slows the handler down: little lies between them', async () => {
      let made = 0;
      await serve({
        async *list() {
          for (; made < 1000; made += 1) yield { info: [{ name: 'x'.repeat(64 * 1024) }] };
        },
      });
      let taken = 0;
      let ahead = 0;
      for await (const _ of client.stream(list, {})) {
        taken += 1;
        ahead = Math.max(ahead, made - taken);
        await new Promise(setImmediate);
      }
      expect(taken).to.equal(1000);
      expect(ahead).to.be.below(60);
    });

    it('a handler whose client turns away is asked for no more, and can clean up', async () => {
      const cleaned = Promise.withResolvers<void>();
      await serve({
        async *list() {
          try {
            for (;;) yield { info: [{ name: 'x'.repeat(64 * 1024) }] };
          } finally {
            cleaned.resolve();
          }
        },
      });
      const stream = client.stream(list, {});
      stream.on('error', () => {});
      stream.once('data', () => stream.cancel());
      await cleaned.promise;
    });
  });

  describe('the end', () => {
    it('calls under way are answered; nobody can connect any more, and the socket is gone', async () => {
      const began = Promise.withResolvers<void>();
      const answer = Promise.withResolvers<object>();
      await serve({
        stat: () => {
          began.resolve();
          return answer.promise;
        },
      });
      expect(statSync(path).mode & 0o777).to.equal(0o600);
      const last = client.ask(stat, { key: 'a' });
      await began.promise;
      const drained = close();
      closed = true;
      await expectGone(path);
      answer.resolve({ info: { name: 'done' } });
      expect((await last).info?.name).to.equal('done');
      await drained;
    });

    it('a call that does not end is cancelled, and a stream as well', async () => {
      const began = Promise.withResolvers<void>();
      const heard = Promise.withResolvers<unknown>();
      const server = new GrpcServer({ ready: Promise.resolve(), log: logInto(lines), peerPid, debug: false });
      const handlers: Partial<Handlers<typeof Snapshots>> = {
        stat: (_request, { signal }) => {
          began.resolve();
          return hangUntil(signal, heard.resolve);
        },
        async *list() {
          for (;;) yield { info: [{ name: 'x'.repeat(64 * 1024) }] };
        },
      };
      server.add(Snapshots, handlers as Handlers<typeof Snapshots>, { unlimited: ['stat'] });
      const stop = await listenUnix(server.listener, path, 0o600);
      client = new TestGrpcClient(path);
      const hung = rejection(client.ask(stat, { key: 'a' }));
      const stream = client.stream(list, {});
      stream.on('error', () => {});
      await began.promise;
      await server.drain(stop, 100);
      expect(await heard.promise).to.be.instanceOf(errors.Aborted);
      expect(await hung).to.be.instanceOf(Error);
    });

    it('serves on a socket that somebody else has bound', async () => {
      const socket = holdSocket(path);
      const server = new GrpcServer({ ready: Promise.resolve(), log: logInto(lines), peerPid, debug: false });
      server.add(Snapshots, { usage: async () => ({ size: 5n }) } as unknown as Handlers<typeof Snapshots>);
      client = new TestGrpcClient(path);
      const waiting = client.ask(usage, { key: 'a' });
      const stop = await listenFd(server.listener, socket.fd);
      expect(await waiting).to.include({ size: 5n });
      await server.drain(stop);
      await rm(path);
    });
  });
});

/** Never answers; tells the reason of the signal when it fires. */
function hangUntil(signal: AbortSignal, heard: (reason: unknown) => void): Promise<never> {
  signal.addEventListener('abort', () => heard(signal.reason));
  return new Promise(() => {});
}

async function expectGone(path: string): Promise<void> {
  while (existsSync(path)) await new Promise(setImmediate);
}

function logInto(lines: string[]): Logger {
  const note = (level: string) => (text: string) => lines.push(`${level} ${text}`);
  return {
    error: note('error'),
    warn: note('warn'),
    info: note('info'),
    debug: note('debug'),
  } as unknown as Logger;
}
