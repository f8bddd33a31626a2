import { Leases } from '../../wire/gen/containerd/services/leases/v1/leases_pb.ts';
import type { ContainerdClient } from './containerd-client.ts';

/**
 * How long a lease lasts, in milliseconds. Writing has to end within it, or garbage collection takes what is there of
 * the blob; and a blob that nobody wants any more is kept as long.
 */
const lifeMs = 60 * 60_000;

/** For how long writes that begin share a lease, in milliseconds. */
const sharedMs = 5 * 60_000;

/** A lease, with the time until which something may be put into it. */
interface Lease {
  readonly id: Promise<string | undefined>;
  readonly until: number;
}

/**
 * Leases that end by themselves. containerd tells a differ outside of it nothing of its client's lease, and a blob in
 * none is garbage as soon as it is there. To make one costs containerd a transaction, so many writes share it.
 */
export class BlobLeases {
  readonly #client: ContainerdClient;
  readonly #leases = new Map<string, Lease>();

  constructor(client: ContainerdClient) {
    this.#client = client;
  }

  /** The id of a lease for what is written now. */
  of(namespace: string): Promise<string | undefined> {
    const known = this.#leases.get(namespace);
    if (known !== undefined && performance.now() < known.until) return known.id;
    const lease = { id: this.#make(namespace), until: performance.now() + sharedMs };
    this.#leases.set(namespace, lease);
    // One that could not be made is asked for again.
    lease.id.catch(() => this.forget(namespace));
    return lease.id;
  }

  /** Gives up a lease that containerd may have lost. */
  forget(namespace: string): void {
    this.#leases.delete(namespace);
  }

  async #make(namespace: string): Promise<string | undefined> {
    const expires = new Date(Date.now() + lifeMs).toISOString();
    const labels = { 'containerd.io/gc.expire': expires };
    const { lease } = await this.#client.service(Leases, namespace).create({ labels });
    return lease?.id;
  }
}
