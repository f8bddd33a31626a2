import { readFile } from 'node:fs/promises';
import type { CopyProgress } from '../../core/ports.ts';
import { Exhausted, Internal } from '../../errors/errors.ts';
import { type Exit, run } from './run.ts';
import { must, syncfs } from './system-calls.ts';
import { measureTree } from './usage.ts';

const dayInMilliseconds = 24 * 60 * 60 * 1000;
const progressEvery = 500;

/**
 * Copies the contents and attributes of one open directory into another with cp(1), which clones data where
 * the file system can and keeps holes, and brings the copy to the disk. Progress comes from what the kernel
 * counts as written by that process (proc(5), `/proc/PID/io`).
 * @throws Exhausted, Internal; Aborted when the signal fires, and then cp is gone
 */
export async function copyTree(
  source: number,
  target: number,
  options: { readonly signal: AbortSignal; readonly onProgress: (progress: CopyProgress) => void },
): Promise<void> {
  const { signal, onProgress } = options;
  const { apparentBytes: totalBytes } = await measureTree(source, '.', signal);
  onProgress({ doneBytes: 0, totalBytes });
  let timer: NodeJS.Timeout | undefined;
  const watch = (pid: number) => {
    timer = setInterval(() => {
      void writtenBy(pid).then(bytes => onProgress({ doneBytes: Math.min(bytes, totalBytes), totalBytes }));
    }, progressEvery);
  };
  try {
    check(
      await run('cp', copyArguments(source, target), { timeout: dayInMilliseconds, signal, onStart: watch }),
    );
  } finally {
    clearInterval(timer);
  }
  must(await syncfs(target), 'bring the copy to the disk');
  onProgress({ doneBytes: totalBytes, totalBytes });
}

/** The directories as our descriptors, so that no name on the way can be exchanged. */
function copyArguments(source: number, target: number): readonly string[] {
  const ours = `/proc/${process.pid}/fd`;
  return ['-a', '--reflink=auto', '--sparse=auto', `${ours}/${source}/.`, `${ours}/${target}`];
}

function check({ code, stderr }: Exit): void {
  if (code === 0) return;
  const reason = stderr.trim().split('\n').at(-1) ?? '';
  if (/No space left on device|Disk quota exceeded/.test(stderr)) {
    throw new Exhausted(`the copy does not fit; make room and try again (${reason})`);
  }
  throw new Internal(`cp failed (exit code ${code ?? 'none'}): ${reason}`);
}

async function writtenBy(pid: number): Promise<number> {
  const counters = await readFile(`/proc/${pid}/io`, 'utf8').catch(() => '');
  return Number(/^wchar: (\d+)$/m.exec(counters)?.[1] ?? 0);
}
