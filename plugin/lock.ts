import { mkdir, open } from 'node:fs/promises';
import { constants } from 'node:os';
import { stateDirectory } from '../scripts/lib/paths.ts';
import { until } from '../scripts/lib/wait.ts';
import { must, tryFlock } from '../src/host/linux/system-calls.ts';

const minutes = 60_000;

/**
 * Does something while no other build or push of this checkout is under way, and waits for one that is. What is
 * locked is the directory itself (flock(2)), which another user than root can do as well.
 * @throws DeadlineExceeded after half an hour
 */
export async function alone<T>(act: () => Promise<T>): Promise<T> {
  await mkdir(stateDirectory, { recursive: true });
  const directory = await open(stateDirectory);
  try {
    if (!isLocked(directory.fd)) {
      console.log('Another build or push is under way; waiting for its end.');
      await until('another build or push of this checkout to end', 30 * minutes, () =>
        isLocked(directory.fd),
      );
    }
    return await act();
  } finally {
    await directory.close();
  }
}

/** Whether the lock is ours now. */
function isLocked(fd: number): boolean {
  const answer = tryFlock(fd);
  if (answer.errno === constants.errno.EAGAIN) return false;
  must(answer, `lock ${stateDirectory}`);
  return true;
}
