import { chmod, chown, copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { must } from '../../scripts/lib/process.ts';
import type { TestHost } from './host.ts';

/** A directory or, with `text`, a file of an image. */
export interface ImageEntry {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly text?: string;
}

/**
 * Gives an engine an image with busybox, these entries with exactly their owners and modes, and these links. The
 * extended attribute `user.of=seed` is on all of them.
 */
export async function importImage(
  host: TestHost,
  image: string,
  entries: Readonly<Record<string, ImageEntry>>,
  links: Readonly<Record<string, string>>,
): Promise<void> {
  const root = join(host.daemon.directory, `image-${image}`);
  await mkdir(join(root, 'bin'), { recursive: true });
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  for (const [name, { uid, gid, mode, text }] of Object.entries(entries)) {
    const path = join(root, name);
    await mkdir(text === undefined ? path : dirname(path), { recursive: true });
    if (text !== undefined) await writeFile(path, text);
    await chown(path, uid, gid);
    await chmod(path, mode);
  }
  for (const [name, target] of Object.entries(links)) await symlink(target, join(root, name));
  const tar = `${root}.tar`;
  const attributes = '--pax-option=SCHILY.xattr.user.of:=seed';
  await must('tar', ['--create', '--format=posix', attributes, '--file', tar, '--directory', root, '.']);
  await host.docker('import', tar, image);
  await rm(root, { recursive: true });
}
