import { readFileSync } from 'node:fs';
import { run } from '../../scripts/lib/process.ts';

/** Unmounts everything below a directory, newest first, and makes what is immutable there deletable. */
export async function unmountBelow(directory: string): Promise<void> {
  const targets = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(target => target.startsWith(`${directory}/`));
  for (const target of targets.reverse()) await run('umount', [target], { timeoutMs: 10_000 });
  await run('chattr', ['-R', '-i', directory], { timeoutMs: 60_000 });
}
