import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '../../scripts/lib/process.ts';
import { change, chmod, type TreeChange } from './layer-tree.ts';
import { collect, type LayerWorld } from './layer-world.ts';

/** An archive of a tree with these changes, as GNU tar writes it; its times are all the same. */
export async function archiveOf(world: LayerWorld, changes: readonly TreeChange[]): Promise<string> {
  const path = mkdtempSync(join(world.scratch, 'archive-'));
  change(path, [chmod('', 0o755), ...changes]);
  const words = ['--create', '--format=pax', '--sort=name', '--mtime=@1000000000.5', '--numeric-owner'];
  await must('tar', [...words, `--file=${path}.tar`, `--directory=${path}`, '.']);
  return `${path}.tar`;
}

/** Applies an archive to a new layer over a parent and commits that. @returns the digest of the archive */
export async function register(
  world: LayerWorld,
  name: string,
  parent: string | undefined,
  archive: string,
): Promise<string> {
  const { store } = world;
  await store.prepare(`${name} in the making`, parent === undefined ? {} : { parent });
  const { diffId } = await store.apply(`${name} in the making`, { path: archive });
  await store.commit(name, `${name} in the making`, { sync: false });
  return diffId;
}

/** All bytes of the archive between two layers. */
export async function difference(world: LayerWorld, base: string | null, key: string): Promise<Buffer> {
  return Buffer.concat(await collect(await world.store.diff(base, key)));
}

export function digestOf(bytes: Buffer | string): string {
  const content = typeof bytes === 'string' ? readFileSync(bytes) : bytes;
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

/** An archive as a stream of small pieces. */
export async function* inPieces(bytes: Buffer, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
