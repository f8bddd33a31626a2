import type {
  DescMessage,
  DescMethod,
  DescService,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import type { Metadata } from '@grpc/grpc-js';

/** What a handler knows of its call beside the request. */
export interface Call {
  /** The client's namespace (containerd, pkg/namespaces): metadata `containerd-namespace`. */
  readonly namespace: string | undefined;
  /** Fires when nobody waits for the answer any more; its reason is a VarveError. */
  readonly signal: AbortSignal;
  readonly metadata: Metadata;
}

export type UnaryHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => Promise<MessageInitShape<O>>;

export type StreamHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => AsyncIterable<MessageInitShape<O>>;

/** The handler of a method: none of our services has a method whose requests are a stream. */
export type Handler<M extends DescMethod> = M['methodKind'] extends 'unary'
  ? UnaryHandler<M['input'], M['output']>
  : M['methodKind'] extends 'server_streaming'
    ? StreamHandler<M['input'], M['output']>
    : never;

/** A handler for each method of a service. They throw VarveErrors. */
export type Handlers<S extends DescService> = {
  readonly [K in keyof S['method']]: Handler<S['method'][K]>;
};

export interface ServiceOptions<S extends DescService> {
  /** Longest time for an answer, in milliseconds; a stream of answers has none. */
  readonly deadlineMs?: number;
  /** Methods that get five minutes: what they do grows with the files of a layer. */
  readonly slow?: readonly (keyof S['method'])[];
  /** Methods that may take as long as they need. */
  readonly unlimited?: readonly (keyof S['method'])[];
}
