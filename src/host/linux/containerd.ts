import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import type { Blob, BlobStore, ByteSource, WriteBlob } from '../../core/ports.ts';
import { FailedPrecondition, InvalidArgument, NotFound, Unavailable } from '../../errors/errors.ts';
import { Content } from '../../wire/gen/containerd/services/content/v1/content_pb.ts';
import { Introspection } from '../../wire/gen/containerd/services/introspection/v1/introspection_pb.ts';
import { ContainerdClient } from './containerd-client.ts';
import { BlobLeases } from './containerd-leases.ts';
import { writeBlob } from './containerd-write.ts';

/** Longest silence in the middle of a blob, in milliseconds: the disk may be busy. */
const silenceMs = 60_000;

/** The content store of a containerd (containerd, core/content). */
export class Containerd implements BlobStore {
  readonly #address: string;
  readonly #client: ContainerdClient;
  readonly #leases: BlobLeases;
  /** Directory of the content store, as containerd sees it; undefined while nobody has asked. */
  #root: Promise<string | undefined> | undefined;

  /** @param address absolute path of its unix socket; nothing is asked before it is needed */
  constructor(address: string) {
    this.#address = address;
    this.#client = new ContainerdClient(address);
    this.#leases = new BlobLeases(this.#client);
  }

  /** @throws FailedPrecondition when the blob has another size, InvalidArgument for what is no digest */
  async read(namespace: string, blob: Blob, signal?: AbortSignal): Promise<ByteSource> {
    const { digest, size } = blob;
    const [, algorithm, hash] = /^([a-z0-9]+):([0-9a-f]{32,128})$/.exec(digest) ?? [];
    if (algorithm === undefined || hash === undefined)
      throw new InvalidArgument(`the digest ${digest} is not understood; it is sha256: and 64 digits`);
    const { info } = await this.#client
      .service(Content, namespace)
      .info({ digest }, { signal })
      .catch((error: unknown) => {
        if (!(error instanceof NotFound)) throw error;
        throw new NotFound(
          `containerd at ${this.#address} has no blob ${digest} in namespace ${namespace}; pull or load the image again`,
          { cause: error },
        );
      });
    if (info?.size !== BigInt(size)) {
      throw new FailedPrecondition(
        `the blob ${digest} has ${info?.size} bytes, not ${size} as its descriptor says; pull or load the image again`,
      );
    }
    const path = await this.#fileOf(`blobs/${algorithm}/${hash}`, size);
    return path === undefined ? this.#bytesOf(namespace, blob, signal) : { path };
  }

  async write(namespace: string, bytes: AsyncIterable<Uint8Array>, options: WriteBlob): Promise<Blob> {
    const lease = options.lease ?? (await this.#leases.of(namespace));
    try {
      return await writeBlob(this.#client.service(Content, namespace), bytes, { ...options, lease });
    } catch (error) {
      // It may be the lease: containerd has been emptied, or somebody has deleted it.
      if (error instanceof NotFound) this.#leases.forget(namespace);
      throw error;
    }
  }

  close(): void {
    this.#client.close();
  }

  /**
   * A file of the content store with this size, if we see the same files as containerd: it may run on another host or
   * in a mount namespace of its own, and may have another kind of content store.
   */
  async #fileOf(name: string, size: number): Promise<string | undefined> {
    this.#root ??= this.#findRoot();
    const root = await this.#root.catch(() => undefined);
    if (root !== undefined) {
      const path = `${root}/${name}`;
      const found = await stat(path).catch(() => undefined);
      const isReadable = () =>
        access(path, constants.R_OK).then(
          () => true,
          () => false,
        );
      if (found?.isFile() && found.size === size && (await isReadable())) return path;
    }
    // It may have been started again elsewhere.
    this.#root = undefined;
    return undefined;
  }

  async #findRoot(): Promise<string | undefined> {
    const { plugins } = await this.#client
      .service(Introspection)
      .plugins({ filters: ['type==io.containerd.content.v1'] });
    return plugins.map(({ exports }) => exports.root).find(root => root?.startsWith('/'));
  }

  async *#bytesOf(namespace: string, { digest, size }: Blob, signal: AbortSignal | undefined) {
    const options = { signal, deadlineMs: silenceMs };
    let length = 0;
    for await (const { data } of this.#client.service(Content, namespace).read({ digest }, options)) {
      length += data.length;
      yield data;
    }
    if (length !== size)
      throw new Unavailable(
        `containerd at ${this.#address} has sent ${length} of ${size} bytes of ${digest}; try again`,
      );
  }
}
