import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';

/** A method whose messages the compiler knows. */
export type TypedMethod<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

/** Largest message either way, in bytes: that of containerd (its setting `max_recv_message_size`). */
export const maxMessageSize = 16 * 1024 * 1024;

/** A method as grpc-js wants it. A message that is sent needs no field that has its default. */
export interface MethodOnWire<I extends DescMessage, O extends DescMessage> {
  readonly path: string;
  readonly requestSerialize: (message: MessageInitShape<I>) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => MessageShape<I>;
  readonly responseSerialize: (message: MessageInitShape<O>) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => MessageShape<O>;
}

export function onWire<I extends DescMessage, O extends DescMessage>(
  method: TypedMethod<I, O>,
): MethodOnWire<I, O> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestSerialize: message => bytesOf(method.input, message),
    requestDeserialize: bytes => fromBinary(method.input, bytes),
    responseSerialize: message => bytesOf(method.output, message),
    responseDeserialize: bytes => fromBinary(method.output, bytes),
  };
}

function bytesOf<T extends DescMessage>(schema: T, message: MessageInitShape<T>): Buffer {
  const { buffer, byteOffset, byteLength } = toBinary(schema, create(schema, message));
  return Buffer.from(buffer, byteOffset, byteLength);
}
