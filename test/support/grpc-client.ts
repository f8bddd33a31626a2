import { type DescMessage, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf';
import {
  Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { onWire, type TypedMethod } from '../../src/wire/method.ts';

export interface CallOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly deadlineMs?: number;
}

/** A client of grpc-js on a unix socket, as plain as can be. */
export class TestGrpcClient {
  readonly #client: Client;

  constructor(path: string) {
    this.#client = new Client(`unix:${path}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /** @returns the call, to be cancelled, and its answer: a ServiceError when it fails */
  start<I extends DescMessage, O extends DescMessage>(
    method: TypedMethod<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): { readonly call: ClientUnaryCall; readonly answer: Promise<MessageShape<O>> } {
    const { path, requestSerialize, responseDeserialize } = onWire(method);
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    const call = this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadataOf(options),
      deadlineOf(options),
      (error, response) => (response === undefined ? reject(error) : resolve(response)),
    );
    return { call, answer: promise };
  }

  ask<I extends DescMessage, O extends DescMessage>(
    method: TypedMethod<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.start(method, request, options).answer;
  }

  /** The failure of a call that has to fail. */
  async failure<I extends DescMessage, O extends DescMessage>(
    method: TypedMethod<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<{ readonly code: number; readonly details: string }> {
    const answer = await this.ask(method, request, options).catch((error: ServiceError) => error);
    if (!('code' in answer)) throw new Error(`${method.name} should have failed`);
    const { code, details } = answer as ServiceError;
    return { code, details };
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: TypedMethod<I, O>,
    request: MessageInitShape<I>,
  ): ClientReadableStream<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = onWire(method);
    return this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
  }

  close(): void {
    this.#client.close();
  }
}

/** Length of a message on the wire, in bytes. */
export function sizeOf<T extends DescMessage>(schema: T, message: MessageShape<T>): number {
  return toBinary(schema, message).length;
}

function metadataOf({ metadata = {} }: CallOptions): Metadata {
  return Metadata.fromHttp2Headers({ ...metadata });
}

function deadlineOf({ deadlineMs }: CallOptions): { deadline?: number } {
  return deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
}
