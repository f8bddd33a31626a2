import { once } from 'node:events';
import type { DescMessage, Message, MessageInitShape } from '@bufbuild/protobuf';
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js';
import { Aborted, DeadlineExceeded } from '../../errors/errors.ts';
import { toGrpc } from '../../errors/to-grpc.ts';
import { type CallLog, logOf } from './call-log.ts';
import type { Call, StreamHandler, UnaryHandler } from './service.ts';

/** What answering a method takes beside its handler. */
export interface Method extends CallLog {
  readonly deadlineMs: number | undefined;
  readonly ready: Promise<void>;
}

type Init = MessageInitShape<DescMessage>;
type UnaryCall = ServerUnaryCall<Message, Init>;
type StreamCall = ServerWritableStream<Message, Init>;

/** The unary form of a handler: the client is answered when the time is up, whatever the handler does. */
export function answerUnary(
  method: Method,
  handler: UnaryHandler<DescMessage, DescMessage>,
): handleUnaryCall<Message, Init> {
  return (grpc, callback) => {
    const log = logOf(method, grpc.request);
    const patience = patienceOf(grpc, method);
    const work = async () => {
      await method.ready;
      return handler(grpc.request, callOf(grpc, patience.signal));
    };
    const response = work();
    response.then(
      () => patience.signal.aborted && log.doneLate(),
      error => patience.signal.aborted && error !== patience.signal.reason && log.failed(error),
    );
    Promise.race([response, patience.over])
      .finally(patience.end)
      .then(
        message => {
          log.done();
          callback(null, message);
        },
        (error: unknown) => {
          log.failed(error);
          callback(toGrpc(error));
        },
      );
  };
}

/** The streaming form of a handler: it is asked for the next answer when the client has room for it. */
export function answerStream(
  method: Method,
  handler: StreamHandler<DescMessage, DescMessage>,
): handleServerStreamingCall<Message, Init> {
  return grpc => void pour(method, handler, grpc);
}

/** Sends a stream to its end; a failure is the last that is sent. */
async function pour(
  method: Method,
  handler: StreamHandler<DescMessage, DescMessage>,
  grpc: StreamCall,
): Promise<void> {
  const log = logOf(method, grpc.request);
  const patience = patienceOf(grpc, { ...method, deadlineMs: undefined });
  try {
    await method.ready;
    for await (const response of handler(grpc.request, callOf(grpc, patience.signal))) {
      await send(grpc, response, patience.signal);
    }
    log.done();
    grpc.end();
  } catch (error) {
    log.failed(error);
    grpc.emit('error', toGrpc(error));
  } finally {
    patience.end();
  }
}

function callOf({ metadata }: UnaryCall | StreamCall, signal: AbortSignal): Call {
  return { namespace: metadata.get('containerd-namespace')[0]?.toString(), signal, metadata };
}

/** How long an answer is waited for: the signal fires, and `over` rejects, when nobody does any more. */
interface Patience {
  readonly signal: AbortSignal;
  readonly over: Promise<never>;
  readonly end: () => void;
}

function patienceOf(grpc: UnaryCall | StreamCall, { name, deadlineMs }: Method): Patience {
  const abort = new AbortController();
  const over = Promise.withResolvers<never>();
  over.promise.catch(() => {});
  const giveUp = (reason: Error) => {
    abort.abort(reason);
    over.reject(reason);
  };
  // grpc-js says so at the end of every call, too; and the client's own deadline ends it in this way.
  const cancelled = () => giveUp(new Aborted(`nobody waits for the answer to ${name} any more`));
  grpc.once('cancelled', cancelled);
  const late = () =>
    giveUp(new DeadlineExceeded(`${name} took longer than ${(deadlineMs ?? 0) / 1000} s; try again`));
  const timer = deadlineMs === undefined ? undefined : setTimeout(late, deadlineMs);
  const end = () => {
    clearTimeout(timer);
    grpc.off('cancelled', cancelled);
  };
  return { signal: abort.signal, over: over.promise, end };
}

/** @throws the reason of the signal */
async function send(grpc: StreamCall, response: Init, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (grpc.write(response)) return;
  // Once cancelled, grpc-js takes no answer and never drains.
  await once(grpc, 'drain', { signal }).catch(error => {
    signal.throwIfAborted();
    throw error;
  });
}
