import { request } from 'node:http';

/** One call of the engine's API. */
export function askEngine(socketPath: string, method: string, path: string, body?: unknown): Promise<void> {
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path: `/v1.40${path}`, headers }, response => {
      response.resume();
      response.on('end', () => {
        if ((response.statusCode ?? 500) < 300) resolve();
        else reject(new Error(`${method} ${path}: status ${response.statusCode}`));
      });
    });
    call.on('error', reject);
    call.end(text);
  });
}
