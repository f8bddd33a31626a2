import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import {
  type ClientDuplexStream,
  type ClientReadableStream,
  type Client as GrpcClient,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { Aborted, Internal, messageOf, Unavailable, VarveError } from '../../errors/errors.ts';
import { fromGrpc } from '../../errors/from-grpc.ts';
import { within } from '../../lib/deadline.ts';
import { onWire, type TypedMethod } from '../../wire/method.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for an answer, and in a stream for the next one, in milliseconds. */
  readonly deadlineMs?: number;
  /** The lease (containerd, core/leases) that keeps what the call makes. */
  readonly lease?: string | undefined;
}

/** A call in which each request is answered before the next one is sent. */
export interface Exchange<I extends DescMessage, O extends DescMessage> {
  ask(request: MessageInitShape<I>): Promise<MessageShape<O>>;
  /** Ends the call, whatever it is at. */
  end(): void;
}

/** Whom to call, and where the objects are. */
export interface Line {
  readonly grpc: GrpcClient;
  readonly address: string;
  readonly namespace: string | undefined;
}

const defaultDeadlineMs = 10_000;

export function unary<I extends DescMessage, O extends DescMessage>(line: Line, method: TypedMethod<I, O>) {
  const { path, requestSerialize, responseDeserialize } = onWire(method);
  return (request: MessageInitShape<I>, options: CallOptions = {}): Promise<MessageShape<O>> => {
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    const call = line.grpc.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadataOf(line, options),
      { deadline: Date.now() + (options.deadlineMs ?? defaultDeadlineMs) },
      (error, response) => {
        if (response === undefined) reject(failureOf(error, line, options));
        else resolve(response);
      },
    );
    const release = cancelOn(options.signal, call);
    return promise.finally(release);
  };
}

export function stream<I extends DescMessage, O extends DescMessage>(line: Line, method: TypedMethod<I, O>) {
  const { path, requestSerialize, responseDeserialize } = onWire(method);
  return async function* (
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const metadata = metadataOf(line, options);
    const call = line.grpc.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
    );
    const answers = new Answers(call, line, options);
    try {
      for (let answer = await answers.next(); answer !== undefined; answer = await answers.next())
        yield answer;
    } finally {
      answers.end();
    }
  };
}

export function exchange<I extends DescMessage, O extends DescMessage>(
  line: Line,
  method: TypedMethod<I, O>,
) {
  const { path, requestSerialize, responseDeserialize } = onWire(method);
  return (options: CallOptions = {}): Exchange<I, O> => {
    const metadata = metadataOf(line, options);
    const call = line.grpc.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
    const answers = new Answers(call, line, options);
    return {
      async ask(request) {
        call.write(request);
        const answer = await answers.next();
        if (answer === undefined)
          throw new Unavailable(`containerd at ${line.address} has ended a call early`);
        return answer;
      },
      end: () => answers.end(),
    };
  };
}

/** What comes back in a call. */
class Answers<T> {
  readonly #call: ClientReadableStream<T> | ClientDuplexStream<unknown, T>;
  readonly #line: Line;
  readonly #options: CallOptions;
  readonly #iterator: AsyncIterator<T>;
  readonly #release: () => void;
  #failure: Error | undefined;

  constructor(
    call: ClientReadableStream<T> | ClientDuplexStream<unknown, T>,
    line: Line,
    options: CallOptions,
  ) {
    this.#call = call;
    this.#line = line;
    this.#options = options;
    this.#iterator = call[Symbol.asyncIterator]();
    this.#release = cancelOn(options.signal, call);
    // The iterator sees no failure from before its first step.
    call.on('error', (error: Error) => {
      this.#failure = error;
    });
  }

  /** @returns undefined at the end */
  async next(): Promise<T | undefined> {
    const { deadlineMs = defaultDeadlineMs } = this.#options;
    const late = `containerd at ${this.#line.address} has said nothing for ${deadlineMs / 1000} s; look at its log`;
    try {
      if (this.#failure !== undefined) throw this.#failure;
      const { done, value } = await within(deadlineMs, late, () => this.#iterator.next());
      return done === true ? undefined : value;
    } catch (error) {
      throw failureOf(error, this.#line, this.#options);
    }
  }

  end(): void {
    this.#release();
    this.#call.cancel();
  }
}

function metadataOf({ namespace }: Line, { lease }: CallOptions): Metadata {
  const metadata = new Metadata();
  if (namespace !== undefined) metadata.set('containerd-namespace', namespace);
  if (lease !== undefined) metadata.set('containerd-lease', lease);
  return metadata;
}

/** Cancels a call when the signal fires. @returns forgets about it */
function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): () => void {
  const cancel = () => call.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  return () => signal?.removeEventListener('abort', cancel);
}

function failureOf(error: unknown, { address }: Line, { signal }: CallOptions): VarveError {
  if (error instanceof VarveError) return error;
  if (signal?.aborted) {
    if (signal.reason instanceof VarveError) return signal.reason;
    return new Aborted(`stopped to ask containerd at ${address}: it was cancelled`, { cause: error });
  }
  if (!isServiceError(error))
    return new Internal(`cannot ask containerd at ${address}: ${messageOf(error)}`, { cause: error });
  const { code, details } = error;
  const isSilent = code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED;
  const message = isSilent
    ? `containerd at ${address} does not answer: ${details}; start it, or correct its address`
    : `containerd at ${address} answers: ${details}`;
  return fromGrpc(code, { message, cause: error });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}
