import { createHash } from 'node:crypto';
import type { Blob, WriteBlob } from '../../core/ports.ts';
import { AlreadyExists, Internal, Unavailable } from '../../errors/errors.ts';
import { type Content, WriteAction } from '../../wire/gen/containerd/services/content/v1/content_pb.ts';
import type { Client } from './containerd-client.ts';

/** Least data in one message but the last, in bytes: each is waited for. */
const minData = 1024 * 1024;

/** Most data in one message, in bytes; the rest of it is small. */
const maxData = 8 * 1024 * 1024;

/** Longest time for one piece, in milliseconds; at the last one containerd brings the blob to the disk. */
const pieceMs = 5 * 60_000;

type ContentClient = Client<typeof Content>;

/** Writes a blob as {@link BlobStore.write} says, into a lease. */
export async function writeBlob(
  content: ContentClient,
  bytes: AsyncIterable<Uint8Array>,
  { ref, labels, lease, signal }: WriteBlob,
): Promise<Blob> {
  const call = content.write({ signal, lease, deadlineMs: pieceMs });
  const hash = createHash('sha256');
  let size = 0;
  let isAsked = false;
  try {
    for await (const data of pieces(bytes)) {
      isAsked = true;
      const { offset } = await call.ask({ action: WriteAction.WRITE, ref, offset: BigInt(size), data });
      hash.update(data);
      size += data.length;
      if (offset !== BigInt(size))
        throw new Internal(`containerd has ${offset} bytes of the blob ${ref}, of ${size} that it got`);
    }
    const digest = `sha256:${hash.digest('hex')}`;
    await commit(content, call, { ref, digest, size }, labels());
    return { digest, size };
  } catch (error) {
    // Another writer of the same ref makes the first piece Unavailable, and must not lose its ingest.
    const isOurs = size > 0 || (isAsked && !(error instanceof Unavailable));
    call.end();
    if (isOurs) await content.abort({ ref }).catch(() => {});
    throw error;
  } finally {
    call.end();
  }
}

/** The same bytes in pieces that fit into a message, and are worth one. */
async function* pieces(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let small: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    small.push(chunk);
    length += chunk.length;
    if (length < minData) continue;
    yield* cut(Buffer.concat(small));
    small = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(small);
}

function* cut(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += maxData) yield bytes.subarray(at, at + maxData);
}

/**
 * Makes a blob of what was written. The digest is compared afterwards: containerd refuses one that it knows before it
 * has put the blob into the lease.
 */
async function commit(
  content: ContentClient,
  call: ReturnType<ContentClient['write']>,
  { ref, digest, size }: Blob & { readonly ref: string },
  labels: Readonly<Record<string, string>>,
): Promise<void> {
  const [offset, total] = [BigInt(size), BigInt(size)];
  try {
    const answer = await call.ask({ action: WriteAction.COMMIT, ref, offset, total, labels });
    if (answer.digest === digest) return;
    throw new Internal(`containerd keeps the blob ${digest} as ${answer.digest}`);
  } catch (error) {
    if (!(error instanceof AlreadyExists)) throw error;
    await addLabels(content, digest, labels);
  }
}

/** Gives a blob the labels that it lacks. */
async function addLabels(
  content: ContentClient,
  digest: string,
  labels: Readonly<Record<string, string>>,
): Promise<void> {
  const { info } = await content.info({ digest });
  const missing = Object.entries(labels).filter(([name]) => info?.labels[name] === undefined);
  if (missing.length === 0) return;
  const paths = missing.map(([name]) => `labels.${name}`);
  await content.update({ info: { digest, labels: Object.fromEntries(missing) }, updateMask: { paths } });
}
