import { createHash } from 'node:crypto';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import {
  Content,
  type ReadContentRequest,
  WriteAction,
  type WriteContentRequest,
} from '../../src/wire/gen/containerd/services/content/v1/content_pb.ts';
import { Introspection } from '../../src/wire/gen/containerd/services/introspection/v1/introspection_pb.ts';
import { Leases } from '../../src/wire/gen/containerd/services/leases/v1/leases_pb.ts';
import { onWire, type TypedMethod } from '../../src/wire/method.ts';

export interface FakeBlob {
  readonly bytes: Buffer;
  readonly labels: Readonly<Record<string, string>>;
}

const pieceSize = 32 * 1024;

/** The content store of a containerd whose files nobody else sees, as much of it as a differ needs. */
export class FakeContainerd {
  /** By namespace and digest: `default sha256:...`. */
  readonly blobs = new Map<string, FakeBlob>();
  /** The ref and the lease of each write. */
  readonly writes: { readonly ref: string; readonly lease: string | undefined }[] = [];
  /** Runs in each read after the first piece. */
  onRead: () => Promise<void> = async () => undefined;
  readonly #server = new Server();

  constructor() {
    this.#unary(Introspection.method.plugins, () => ({ plugins: [] }));
    this.#unary(Leases.method.create, () => ({ lease: { id: 'lease-of-our-own' } }));
    this.#unary(Content.method.abort, () => ({}));
    this.#unary(Content.method.info, ({ digest }, metadata) => {
      const blob = this.#blob(metadata, digest);
      return blob && { info: { digest, size: BigInt(blob.bytes.length), labels: { ...blob.labels } } };
    });
    const read = onWire(Content.method.read);
    this.#server.register(
      read.path,
      (call: ServerWritableStream<ReadContentRequest, object>) => void this.#read(call),
      read.responseSerialize as (value: object) => Buffer,
      read.requestDeserialize,
      'serverStream',
    );
    const write = onWire(Content.method.write);
    this.#server.register(
      write.path,
      (call: ServerDuplexStream<WriteContentRequest, object>) => this.#write(call),
      write.responseSerialize as (value: object) => Buffer,
      write.requestDeserialize,
      'bidi',
    );
  }

  /** Keeps a blob. @returns its digest */
  add(bytes: Buffer, namespace = 'default'): string {
    const digest = digestOf(bytes);
    this.blobs.set(`${namespace} ${digest}`, { bytes, labels: {} });
    return digest;
  }

  async listen(path: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), error =>
      error === null ? resolve() : reject(error),
    );
    await promise;
  }

  close(): void {
    this.#server.forceShutdown();
  }

  #blob(metadata: Metadata, digest: string): FakeBlob | undefined {
    return this.blobs.get(`${metadata.get('containerd-namespace')[0]} ${digest}`);
  }

  /** @param answer undefined for what is not found */
  #unary<I extends DescMessage, O extends DescMessage>(
    method: TypedMethod<I, O>,
    answer: (request: MessageShape<I>, metadata: Metadata) => object | undefined,
  ): void {
    const { path, responseSerialize, requestDeserialize } = onWire(method);
    this.#server.register(
      path,
      (
        call: { readonly request: MessageShape<I>; readonly metadata: Metadata },
        callback: (error: object | null, response?: object) => void,
      ) => {
        const response = answer(call.request, call.metadata);
        if (response === undefined) callback({ code: status.NOT_FOUND, details: 'not found' });
        else callback(null, response);
      },
      responseSerialize as (value: object) => Buffer,
      requestDeserialize,
      'unary',
    );
  }

  async #read(call: ServerWritableStream<ReadContentRequest, object>): Promise<void> {
    const blob = this.#blob(call.metadata, call.request.digest);
    for (let at = 0; blob !== undefined && at < blob.bytes.length && !call.cancelled; at += pieceSize) {
      const data = blob.bytes.subarray(at, at + pieceSize);
      if (!call.write({ offset: BigInt(at), data }))
        await new Promise<void>(resolve => {
          call.once('drain', resolve);
          call.once('cancelled', resolve);
        });
      if (at === 0) await this.onRead();
    }
    call.end();
  }

  #write(call: ServerDuplexStream<WriteContentRequest, object>): void {
    const pieces: Uint8Array[] = [];
    let size = 0;
    const lease = call.metadata.get('containerd-lease')[0]?.toString();
    call.on('data', ({ action, ref, data, labels }: WriteContentRequest) => {
      if (pieces.length === 0) this.writes.push({ ref, lease });
      pieces.push(data);
      size += data.length;
      if (action !== WriteAction.COMMIT) return void call.write({ action, offset: BigInt(size) });
      const bytes = Buffer.concat(pieces);
      const namespace = call.metadata.get('containerd-namespace')[0];
      this.blobs.set(`${namespace} ${digestOf(bytes)}`, { bytes, labels });
      call.write({ action, offset: BigInt(size), digest: digestOf(bytes) });
    });
    call.on('end', () => call.end());
    call.on('error', () => {});
  }
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
