import { createWriteStream, rmSync, type Stats } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { errorCode, fromNodeError } from '../errors/from-errno.ts';

/**
 * Writes a file that appears whole or not at all, whatever ends us; a pipe or a device is written to as it is.
 * @throws Exhausted, NotFound, FailedPrecondition; what `pieces` throws
 */
export async function writeWhole(path: string, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const action = `write ${path}`;
  try {
    const there = await statIfThere(path);
    if (there !== undefined && !there.isFile()) {
      return await pipeline(pieces, createWriteStream(path));
    }
    await replace(there === undefined ? path : await realpath(path), pieces);
  } catch (error) {
    throw fromNodeError(error, action);
  }
}

async function replace(target: string, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const draft = join(dirname(target), `.varve-${process.pid}.tmp`);
  const forget = () => rmSync(draft, { force: true });
  process.once('exit', forget);
  for (const signal of signals) process.once(signal, exit);
  try {
    const file = await open(draft, 'wx');
    try {
      await fill(file, pieces);
    } finally {
      await file.close();
    }
    await rename(draft, target);
  } finally {
    forget();
    process.removeListener('exit', forget);
    for (const signal of signals) process.removeListener(signal, exit);
  }
}

async function fill(file: FileHandle, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  await file.writeFile(pieces);
  await file.sync();
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function exit(): void {
  process.exit(130);
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
