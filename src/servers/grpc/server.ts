import { createServer, type Server as Listener, type Socket } from 'node:net';
import type { DescMethod, DescService } from '@bufbuild/protobuf';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from '../../lib/log.ts';
import { maxMessageSize, onWire } from '../../wire/method.ts';
import { answerStream, answerUnary, type Method } from './answer.ts';
import type { Handlers, ServiceOptions, StreamHandler, UnaryHandler } from './service.ts';

export interface GrpcServerParts {
  /** Calls wait for this: the socket is bound before the state is loaded. */
  readonly ready: Promise<void>;
  readonly log: Logger;
  /** The process at the other end of a connection, if it can be known. */
  readonly peerPid: (socket: Socket) => number | undefined;
  /** Whether to log every call, and failures with their stack. */
  readonly debug: boolean;
}

/** Longest time for one answer, in milliseconds: garbage collection of containerd waits for each, and all for it. */
const defaultDeadlineMs = 10_000;

const slowDeadlineMs = 300_000;

/** Longest time that calls under way are waited for when the daemon ends, in milliseconds. */
const drainMs = 10_000;

/**
 * A gRPC server without TLS for local clients (gRPC over HTTP/2, plaintext with prior knowledge).
 *
 * A client whose `:authority` is a path, as that of a Go program with a dialer of its own, gets RST_STREAM from
 * nghttp2; one that dials `unix:PATH`, as containerd does, sends `localhost`.
 */
export class GrpcServer {
  /** Accepts the connections: whoever owns the server makes it listen. */
  readonly listener: Listener;
  readonly #parts: GrpcServerParts;
  /** Open connections, with the processes at their other ends. */
  readonly #sockets = new Map<Socket, number | undefined>();
  #isEnding = false;
  readonly #server = new Server({
    'grpc.max_receive_message_length': maxMessageSize,
    'grpc.max_send_message_length': maxMessageSize,
    'grpc.enable_channelz': 0,
  });

  constructor(parts: GrpcServerParts) {
    this.#parts = parts;
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.listener = createServer(socket => {
      // It came while the listener was closing: nobody would tell it of the end.
      if (this.#isEnding) return void socket.destroy();
      this.#note(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      injector.injectConnection(socket);
    });
  }

  /** Answers the methods of a service, before anybody can connect. */
  add<S extends DescService>(service: S, handlers: Handlers<S>, options: ServiceOptions<S> = {}): void {
    const { deadlineMs = defaultDeadlineMs, slow = [], unlimited = [] } = options;
    const [isSlow, isUnlimited] = [new Set<PropertyKey>(slow), new Set<PropertyKey>(unlimited)];
    for (const [name, method] of Object.entries(service.method)) {
      const limit = isUnlimited.has(name) ? undefined : isSlow.has(name) ? slowDeadlineMs : deadlineMs;
      this.#register(method, (handlers as Readonly<Record<string, unknown>>)[name], limit);
    }
  }

  /**
   * Ends the server: calls under way are answered, those that take too long are cancelled, and clients are told to
   * send theirs elsewhere (HTTP/2, GOAWAY).
   * @param close stops listening, and resolves when the last connection is closed
   * @param limitMs how long calls are waited for, in milliseconds
   */
  async drain(close: () => Promise<void>, limitMs = drainMs): Promise<void> {
    this.#isEnding = true;
    const closing = close();
    this.#server.tryShutdown(() => {});
    const timer = setTimeout(() => {
      for (const socket of this.#sockets.keys()) socket.destroy();
    }, limitMs);
    await closing;
    clearTimeout(timer);
  }

  /** Two engines that share a snapshotter take each other's layers for garbage. */
  #note(socket: Socket): void {
    const pid = this.#parts.peerPid(socket);
    const other = [...this.#sockets.values()].find(known => known !== undefined && known !== pid);
    this.#sockets.set(socket, pid);
    if (pid === undefined || other === undefined) return;
    this.#parts.log.warn(
      `processes ${other} and ${pid} use one socket, and may delete each other's layers; give each engine a snapshotter of its own`,
    );
  }

  #register(desc: DescMethod, handler: unknown, deadlineMs: number | undefined): void {
    const { path, responseSerialize, requestDeserialize } = onWire(desc);
    const method: Method = { ...this.#parts, name: `${desc.parent.name}.${desc.name}`, deadlineMs };
    if (desc.methodKind === 'unary') {
      const answer = answerUnary(method, handler as UnaryHandler<typeof desc.input, typeof desc.output>);
      this.#server.register(path, answer, responseSerialize, requestDeserialize, 'unary');
    } else {
      const answer = answerStream(method, handler as StreamHandler<typeof desc.input, typeof desc.output>);
      this.#server.register(path, answer, responseSerialize, requestDeserialize, 'serverStream');
    }
  }
}
