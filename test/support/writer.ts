import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';

/** What a shell script for a container begins with that is to wait with {@link pause}. */
export const pausing = 'mkfifo /dev/shm/pause; exec 3<>/dev/shm/pause';

/** Waits in a shell script without starting a program, which takes most of a processor when it is done without end. */
export function pause(seconds: number): string {
  return `read -t ${seconds} -u 3 || :`;
}

/** A shell script for a container: it writes a number a line, without end, and says so on its output when it cannot. */
export function writer(file: string): string {
  return `trap exit TERM; ${pausing}; n=0; while :; do n=$((n+1)); echo $n >> ${file} || echo lost $n; ${pause(0.005)}; done`;
}

/** Whether what a {@link writer} wrote counts from 1 without a gap. */
export function isGapless(text: string): boolean {
  const lines = text.trimEnd().split('\n');
  return lines.length > 1 && lines.every((line, index) => line === String(index + 1));
}

/** Waits until a {@link writer} has gone on by several lines; the file may not be there yet. @throws DeadlineExceeded */
export async function untilLonger(file: string): Promise<void> {
  const { length } = textOf(file);
  await until(`${file} to grow`, 20_000, () => textOf(file).length > length + 20);
}

/** Waits until a file holds this text, which a container that runs may have yet to write. @throws AssertionError */
export async function untilHolds(file: string, text: string): Promise<void> {
  await until(`${file} to hold ${text}`, 20_000, () => textOf(file) === text).catch(() => undefined);
  expect(textOf(file), file).to.equal(text);
}

/** What a file holds; nothing while it is not there, as that of a container that has yet to write. */
export function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
