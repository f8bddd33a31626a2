import { createHash } from 'node:crypto';
import { pipeline, Readable, type Transform } from 'node:stream';
import { createGzip, createZstdCompress } from 'node:zlib';

export type Compression = 'none' | 'gzip' | 'zstd';

/** Bytes of one piece of a compressed archive, at most. */
const chunkSize = 1 << 18;

const compressors: Readonly<Record<Exclude<Compression, 'none'>, () => Transform>> = {
  gzip: () => createGzip({ chunkSize }),
  zstd: () => createZstdCompress({ chunkSize }),
};

/** An archive as it is sent, and the digest of what was compressed, once all of it is there. */
export interface Compressed {
  readonly bytes: AsyncIterable<Uint8Array>;
  /** `sha256:...` */
  readonly digest: () => string;
}

/** Compresses in the threads of libuv; only the digest is taken here, piece by piece. */
export function compressed(archive: AsyncIterable<Uint8Array>, compression: Compression): Compressed {
  const hash = createHash('sha256');
  async function* hashed(): AsyncGenerator<Uint8Array> {
    for await (const piece of archive) {
      hash.update(piece);
      yield piece;
    }
  }
  const digest = () => `sha256:${hash.copy().digest('hex')}`;
  if (compression === 'none') return { bytes: hashed(), digest };
  // A failure of one stream ends the other, and is thrown to who reads it.
  const bytes = pipeline(Readable.from(hashed()), compressors[compression](), () => {});
  return { bytes, digest };
}
