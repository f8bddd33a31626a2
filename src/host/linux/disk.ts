import { close as closeCallback, constants, open as openCallback } from 'node:fs';
import { mkdir, realpath, stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { promisify } from 'node:util';
import type { CopyProgress, Directory, Disk } from '../../core/ports.ts';
import { Internal, InvalidArgument } from '../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';
import { copyTree } from './copy-tree.ts';
import { LinuxDirectory } from './directory.ts';

const openFile = promisify(openCallback);
const closeFile = promisify(closeCallback);

export class LinuxDisk implements Disk {
  async open(path: string, options: { readonly make?: boolean } = {}): Promise<Directory> {
    if (options.make) await attempt(`make the directory ${path}`, () => mkdir(path, { recursive: true }));
    return new LinuxDirectory(path, await openDirectory(path, constants.O_RDONLY));
  }

  async isDirectory(path: string): Promise<boolean> {
    return (await ifThere(path, () => stat(path)))?.isDirectory() ?? false;
  }

  async realDirectory(path: string): Promise<string | undefined> {
    return (await this.isDirectory(path)) ? await ifThere(path, () => realpath(path)) : undefined;
  }

  async copyTree(
    source: string,
    target: Directory,
    path: string,
    options: { readonly signal: AbortSignal; readonly onProgress: (progress: CopyProgress) => void },
  ): Promise<void> {
    if (!(target instanceof LinuxDirectory))
      throw new Internal(`${target.path} is not a directory of this disk`);
    const from = await openDirectory(source, constants.O_RDONLY);
    try {
      await target.withDirectory(path, to =>
        attempt(`copy ${source} to ${target.path}/${path}`, () => copyTree(from, to, options)),
      );
    } finally {
      await closeFile(from);
    }
  }
}

/** @throws NotFound */
async function openDirectory(path: string, flags: number): Promise<number> {
  if (!isAbsolute(path)) throw new InvalidArgument(`the path "${path}" is relative; give an absolute one`);
  return await attempt(`open the directory ${path}`, () => openFile(path, flags | constants.O_DIRECTORY));
}

async function ifThere<T>(path: string, look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errorCode(error) ?? '')) return undefined;
    throw fromNodeError(error, `look at ${path}`);
  }
}

async function attempt<T>(action: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw fromNodeError(error, action);
  }
}
