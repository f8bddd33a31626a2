import { request } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream';

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One HTTP request over a unix socket; rejects when nobody answers in time. */
export function ask(
  socketPath: string,
  method: string,
  path: string,
  options: { readonly body?: Readable; readonly timeoutMs?: number } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(options.timeoutMs ?? 5_000);
    const sent = request({ socketPath, method, path, signal, agent: false }, response => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    if (options.body === undefined) sent.end();
    else pipeline(options.body, sent, error => error && reject(error));
  });
}

/** Whether a container engine answers on this socket. */
export async function engineAnswers(socketPath: string): Promise<boolean> {
  const answer = await ask(socketPath, 'GET', '/_ping', { timeoutMs: 2_000 }).catch(() => undefined);
  return answer?.status === 200;
}
