import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Request, Response } from 'express';
import type { LongWork } from '../../core/layers/layer-store.ts';
import { toHttp } from '../../errors/to-http.ts';

/** Fires when the answer is sent, or whoever waits for it has gone. */
export function whenClosed(response: Response): AbortSignal {
  const abort = new AbortController();
  if (response.destroyed) abort.abort();
  response.on('close', () => abort.abort());
  return abort.signal;
}

/**
 * The body of a request, as fast as it is taken. Who stops in the middle of it can still answer: the connection
 * stays, and the rest is thrown away once the answer is sent.
 */
export async function* received(request: Request, response: Response): AsyncGenerator<Uint8Array> {
  response.once('finish', () => request.resume());
  for await (const piece of request.iterator({ destroyOnReturn: false })) yield piece as Uint8Array;
}

/**
 * Sends an archive. A failure before its first byte is thrown; one after it breaks the connection off without an end
 * (RFC 9112, section 8), so that nobody takes what arrived for the whole.
 */
export async function sendArchive(response: Response, archive: AsyncIterable<Uint8Array>): Promise<void> {
  const pieces = archive[Symbol.asyncIterator]();
  const first = await pieces.next();
  try {
    response.type('application/x-tar');
    // A failed pipeline has destroyed the response.
    await pipeline(Readable.from(remaining(first, pieces)), response);
  } finally {
    // A response that was closed before takes nothing, and so the rest was not begun.
    await pieces.return?.();
  }
}

async function* remaining(
  first: IteratorResult<Uint8Array>,
  pieces: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  for (let next = first; next.done !== true; next = await pieces.next()) yield next.value;
}

/** Shortest time between two lines of progress, in milliseconds. */
const pace = 100;

/**
 * Sends how far work is and then how it ended, each a line of JSON: `{"progress": …}`, then `{"result": …}` or
 * `{"error": …}`. Work that fails before its first line gets the answer of every failure.
 */
export async function sendLines<T>(
  response: Response,
  start: (work: Required<LongWork>) => Promise<T>,
): Promise<void> {
  const send = (line: object): void => {
    if (!response.headersSent) response.type('application/x-ndjson');
    response.write(`${JSON.stringify(line)}\n`);
  };
  let latest = 0;
  const onProgress: Required<LongWork>['onProgress'] = progress => {
    const now = performance.now();
    if (now - latest < pace || response.destroyed || response.writableNeedDrain) return;
    latest = now;
    send({ progress });
  };
  try {
    const result = await start({ signal: whenClosed(response), onProgress });
    send({ result });
  } catch (error) {
    if (!response.headersSent || response.destroyed) throw error;
    send({ error: toHttp(error).body });
  }
  response.end();
}
