import { close, constants, open } from 'node:fs';
import { promisify } from 'node:util';
import { fromNodeError } from '../../errors/from-errno.ts';
import type { View } from './archive/archiver.ts';

const [openFile, closeFile] = [promisify(open), promisify(close)];

/** Opens a directory of our own, by its absolute path, as a tree. @throws NotFound */
export async function openDirectoryView(path: string): Promise<View> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  try {
    const fd = await openFile(path, flags);
    return { fd, close: () => closeFile(fd) };
  } catch (error) {
    throw fromNodeError(error, `open the directory ${path}`);
  }
}
