import { setTimeout as pause } from 'node:timers/promises';
import { DeadlineExceeded } from '../../src/errors/errors.ts';

/**
 * Asks again and again until the probe gives something.
 * @throws DeadlineExceeded that names what was waited for
 */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new DeadlineExceeded(`waited ${timeoutMs / 1000} s in vain: ${what}`);
    await pause(20);
  }
}
