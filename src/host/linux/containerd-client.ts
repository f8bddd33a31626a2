import type {
  DescMessage,
  DescMethod,
  DescService,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import { credentials, Client as GrpcClient } from '@grpc/grpc-js';
import { maxMessageSize } from '../../wire/method.ts';
import { type CallOptions, type Exchange, exchange, stream, unary } from './containerd-calls.ts';

type Ask<I extends DescMessage, O extends DescMessage> = {
  unary: (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>;
  server_streaming: (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>;
  bidi_streaming: (options?: CallOptions) => Exchange<I, O>;
  client_streaming: never;
};

type AskOf<M extends DescMethod> = Ask<M['input'], M['output']>[M['methodKind']];

/** The methods of a service, to be called. They throw VarveErrors. */
export type Client<S extends DescService> = { readonly [K in keyof S['method']]: AskOf<S['method'][K]> };

/** A connection to containerd's own API; it is made when it is needed, and made again when it breaks. */
export class ContainerdClient {
  readonly #address: string;
  readonly #grpc: GrpcClient;

  /** @param address absolute path of the unix socket */
  constructor(address: string) {
    this.#address = address;
    this.#grpc = new GrpcClient(`unix:${address}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': maxMessageSize,
      'grpc.max_send_message_length': maxMessageSize,
      'grpc.enable_channelz': 0,
      // A blob arrives in messages of 32 KiB; with HTTP/2's window of 64 KiB each second one would wait.
      'grpc-node.flow_control_window': 1024 * 1024,
      // An engine that has been started again is found at once.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 500,
    });
  }

  /** @param namespace of the objects; there is none for what belongs to containerd itself */
  service<S extends DescService>(service: S, namespace?: string): Client<S> {
    const line = { grpc: this.#grpc, address: this.#address, namespace };
    const methods = Object.entries(service.method).map(([name, method]) => {
      if (method.methodKind === 'unary') return [name, unary(line, method)];
      if (method.methodKind === 'server_streaming') return [name, stream(line, method)];
      return [name, exchange(line, method)];
    });
    return Object.fromEntries(methods) as Client<S>;
  }

  close(): void {
    this.#grpc.close();
  }
}
