import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { FailedPrecondition } from '../../errors/errors.ts';
import { fromNodeError } from '../../errors/from-errno.ts';
import { must, tryFlock } from './system-calls.ts';

/**
 * Takes a file for this process alone and writes the pid into it. The kernel gives it back when the process
 * ends, however it ends (flock(2)); the file itself stays, since removing it would let two processes lock two
 * files of one name.
 * @returns a function that gives it back
 * @throws FailedPrecondition when another has it
 */
export async function lockFile(path: string): Promise<() => Promise<void>> {
  const file = await openLockFile(path);
  try {
    await take(file, path);
  } catch (error) {
    await file.close();
    throw error;
  }
  return () => file.close();
}

async function openLockFile(path: string): Promise<FileHandle> {
  try {
    await mkdir(dirname(path), { recursive: true });
    return await open(path, 'a+', 0o600);
  } catch (error) {
    throw fromNodeError(error, `open the lock file ${path}`);
  }
}

async function take(file: FileHandle, path: string): Promise<void> {
  const answer = tryFlock(file.fd);
  if (answer.errno === constants.errno.EAGAIN) {
    const pid = (await file.readFile('utf8')).trim();
    throw new FailedPrecondition(
      `${path} is locked by process ${pid || 'unknown'}: another daemon has this root; stop it, or choose another root`,
    );
  }
  must(answer, `lock ${path}`);
  await file.truncate(0);
  await file.appendFile(`${process.pid}\n`);
}
