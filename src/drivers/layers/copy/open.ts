import { constants } from 'node:fs';
import { chmod, chown, link, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, Unimplemented } from '../../../errors/errors.ts';
import { mknodat } from '../../../host/linux/file-calls.ts';
import { check } from '../../../host/linux/native.ts';
import { setXattr } from '../../../host/linux/xattr-calls.ts';
import type { Archiver } from '../archive/archiver.ts';
import { closing } from '../comparison.ts';
import { deleteDirectory } from '../delete-directory.ts';
import { openDirectoryView } from '../directory-view.ts';
import { CopyDriver } from './copy-driver.ts';

/**
 * Opens the driver `copy` for a root that exists, after it has tried there whether everything that a layer can hold
 * is kept. @throws Unimplemented
 */
export async function openCopyDriver(root: string, archiver: Archiver): Promise<CopyDriver> {
  const probe = join(root, 'new-probe');
  await deleteDirectory(probe);
  try {
    await keepEverything(probe);
  } catch (error) {
    throw new Unimplemented(
      `the layer driver copy cannot work on ${root}: ${messageOf(error)}; use a file system such as ext4, xfs or btrfs, and run varve as root`,
      { cause: error },
    );
  } finally {
    await deleteDirectory(probe);
  }
  return new CopyDriver({ root, archiver });
}

async function keepEverything(probe: string): Promise<void> {
  await mkdir(probe, 0o700);
  const file = join(probe, 'file');
  await writeFile(file, '');
  await chown(file, 1, 2);
  await chmod(file, 0o4751);
  const { uid, gid, mode } = await stat(file);
  if (uid !== 1 || gid !== 2 || (mode & 0o7777) !== 0o4751)
    throw new Unimplemented('it keeps no owners and modes');
  await link(file, join(probe, 'link'));
  await symlink('file', join(probe, 'symlink'));
  const directory = await openDirectoryView(probe);
  await closing([directory], async () => {
    check(
      mknodat(directory.fd, Buffer.from('device'), constants.S_IFCHR | 0o600, { major: 1, minor: 3 }),
      'make a device',
    );
    for (const name of ['user.varve', 'trusted.varve', 'security.varve']) {
      check(
        setXattr([directory.fd, Buffer.from('file')], name, Buffer.from('x')),
        `set the attribute ${name}`,
      );
    }
  });
}
