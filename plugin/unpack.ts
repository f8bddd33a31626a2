import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { must } from '../scripts/lib/process.ts';
import { docker, tryDocker } from './docker.ts';

/** What an engine puts into every container: its own, not the image's (docker export has them all the same). */
const ofTheEngine = ['.dockerenv', 'dev/*', 'etc/hostname', 'etc/hosts', 'etc/mtab', 'etc/resolv.conf'];

/** Lays out an image in a directory. @returns its size in bytes when it is compressed as for a push */
export async function unpackImage(image: string, directory: string): Promise<number> {
  const tar = `${directory}.tar`;
  const container = `varve-build-${process.pid}`;
  try {
    await docker(['create', '--name', container, image]);
    await docker(['export', '--output', tar, container]);
    const [size] = await Promise.all([compressedSize(tar), extract(tar, directory)]);
    return size;
  } finally {
    await tryDocker(['rm', '--force', container]);
    await rm(tar, { force: true });
  }
}

async function extract(tar: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const excluded = ofTheEngine.map(name => `--exclude=${name}`);
  await must('tar', ['--extract', '--numeric-owner', '--file', tar, '--directory', directory, ...excluded]);
}

async function compressedSize(path: string): Promise<number> {
  let size = 0;
  await pipeline(createReadStream(path), createGzip(), async (parts: AsyncIterable<Buffer>) => {
    for await (const part of parts) size += part.length;
  });
  return size;
}
