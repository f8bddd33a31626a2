import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ask } from '../../scripts/lib/http.ts';
import { must } from '../../scripts/lib/process.ts';
import type { TestEngine } from './engine.ts';

interface Line {
  readonly error?: string;
  readonly id?: string;
  readonly aux?: unknown;
}

/**
 * Builds an image with the BuildKit of an engine, whose client would need a plugin for that. The engine fetches the
 * directory with the Dockerfile from us: one with a containerd image store takes it in no other way
 * (https://github.com/moby/moby/issues/47717).
 * @returns the id of the image @throws Error with what the engine says
 */
export async function buildWithBuildKit(engine: TestEngine, directory: string, tag: string): Promise<string> {
  const archive = `${directory}.tar`;
  await must('tar', ['--create', '--file', archive, '--directory', directory, '.']);
  const server = createServer((_, response) => createReadStream(archive).pipe(response));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  try {
    const remote = `http://127.0.0.1:${(server.address() as AddressInfo).port}/context.tar`;
    const query = new URLSearchParams({ version: '2', remote, t: tag, networkmode: 'none' });
    const answer = await ask(engine.socket, 'POST', `/build?${query}`, { timeoutMs: 120_000 });
    const lines = answer.body.split('\n').filter(line => line.trim() !== '');
    const parsed = lines.map(line => JSON.parse(line) as Line);
    const error = parsed.find(line => line.error !== undefined)?.error;
    const image = parsed.find(({ id }) => id === 'moby.image.id')?.aux as { ID: string } | undefined;
    if (image !== undefined && error === undefined) return image.ID;
    throw new Error(`the build of ${tag} failed (${answer.status}): ${error ?? answer.body.slice(-500)}`);
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(archive, { force: true });
  }
}
