import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { busyboxTar } from '../../scripts/lib/busybox.ts';
import { type ImageArchive, makeImageArchive } from './image-archive.ts';
import { randomBytes } from './layer-tree.ts';
import { directory, type Entry, file, hardlink, symlink, tarOf } from './tar-entries.ts';

/** CAP_NET_RAW, as setcap(8) writes it (capabilities(7), VFS_CAP_REVISION_2). */
const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex').toString('latin1');

/** All that an archive can say of a file, and every directory with its own time. */
const everything: readonly Entry[] = [
  directory('opt'),
  directory('opt/all', { mode: 0o2775, gid: 7 }),
  file('opt/all/ping', 'elf', { mode: 0o755, xattrs: { 'security.capability': capability } }),
  file('opt/all/note', 'text', { xattrs: { 'user.comment': 'h\xc3\xa9\0\xff', 'user.empty': '' } }),
  file('opt/all/owner', 'x', { uid: 4_000_000, gid: 3_000_000, mode: 0o6755 }),
  file('opt/all/large', randomBytes(300_000, 7)),
  file('opt/all/latin1-\xe9', 'bytes'),
  file('opt/all/empty'),
  symlink('opt/all/link', '/nowhere/\xe9', { mtime: { seconds: 1, nanoseconds: 123_456_789 } }),
  { path: 'opt/all/pipe', type: 'fifo', mode: 0o600 },
  { path: 'opt/all/null', type: 'character', mode: 0o666, device: { major: 1, minor: 3 } },
  { path: 'opt/all/disk', type: 'block', mode: 0o660, device: { major: 259, minor: 70_000 } },
  hardlink('opt/all/again', 'opt/all/note'),
  directory('opt/gone'),
  file('opt/gone/file', 'deleted above'),
  directory('opt/opaque'),
  file('opt/opaque/hidden', 'hidden above'),
  file('opt/becomes-directory', 'a file'),
  directory('opt/becomes-file'),
  file('opt/becomes-file/inside', 'deleted above'),
];

/** What a layer can do to one beneath it. */
const changes: readonly Entry[] = [
  directory('opt'),
  file('opt/.wh.gone'),
  directory('opt/opaque', { mode: 0o700 }),
  file('opt/opaque/.wh..wh..opq'),
  file('opt/opaque/shown', 'new'),
  directory('opt/becomes-directory', { uid: 5 }),
  file('opt/becomes-directory/inside', 'a directory where a file was'),
  file('opt/becomes-file', 'a file where a directory was'),
  directory('opt/all', { mode: 0o2775, gid: 7 }),
  file('opt/all/.wh.pipe'),
  file('opt/all/owner', 'written anew', { uid: 1, mode: 0o4711 }),
];

/** Archives of layers, not compressed, the lowest first: busybox, everything that an archive can say, and changes of it. */
export async function makeTestLayers(place: string): Promise<readonly string[]> {
  const base = join(place, 'busybox.tar');
  await mkdir(place, { recursive: true });
  await copyFile(await busyboxTar(), base);
  return [base, await makeLayer(place, 'everything', everything), await makeLayer(place, 'changes', changes)];
}

/** @returns the path of the archive */
export async function makeLayer(place: string, name: string, entries: readonly Entry[]): Promise<string> {
  const path = join(place, `${name}.tar`);
  await writeFile(path, tarOf(entries));
  return path;
}

/** Makes an image of these layers. @param name such as `plain`; engines call it `docker.io/varve/NAME:1` */
export function makeTestImage(
  place: string,
  name: string,
  layers: readonly string[],
  options: { readonly gzip?: boolean } = {},
): Promise<ImageArchive> {
  return makeImageArchive(join(place, `${name}-image.tar`), imageName(name), layers, options);
}

export function imageName(name: string): string {
  return `docker.io/varve/${name}:1`;
}
