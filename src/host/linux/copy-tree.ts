import { readFile } from 'node:fs/promises';
import type { CopyProgress } from '../../core/ports.ts';
import { Aborted, Exhausted, Internal } from '../../errors/errors.ts';
import { type Exit, run } from './run.ts';
import { must, syncfs } from './system-calls.ts';
import { measureTree } from './trees.ts';

const dayInMilliseconds = 24 * 60 * 60 * 1000;
const progressEvery = 500;

/**
 * setpriv(1) becomes cp, which the kernel then kills when the thread that started it ends
 * (PR_SET_PDEATHSIG(2const); Node starts processes from its main thread). Without it, a cp that outlives us
 * goes on with its file in a directory that our successor makes anew. If we end before setpriv has asked for
 * that, our descriptors are gone when cp looks for them.
 */
const diesWithUs = ['--pdeathsig', 'KILL'];

/**
 * Copies the contents and attributes of one open directory into another with cp(1), which clones data where
 * the file system can and keeps holes, and brings the copy to the disk. Progress comes from what the kernel
 * counts as written by that process (proc(5), `/proc/PID/io`).
 * @throws Exhausted, Internal; Aborted when the signal fires or somebody else kills cp, and then it is gone
 */
export async function copyTree(
  source: number,
  target: number,
  options: { readonly signal: AbortSignal; readonly onProgress: (progress: CopyProgress) => void },
): Promise<void> {
  const { signal, onProgress } = options;
  const { apparentBytes: totalBytes } = await measureTree(source, signal);
  let doneBytes = 0;
  const report = (bytes: number): void => {
    // The counters of a process that has just ended read as nothing.
    doneBytes = Math.max(doneBytes, Math.min(bytes, totalBytes));
    onProgress({ doneBytes, totalBytes });
  };
  report(0);
  let timer: NodeJS.Timeout | undefined;
  const watch = (pid: number) => {
    timer = setInterval(() => void writtenBy(pid).then(report), progressEvery);
  };
  try {
    const words = [...diesWithUs, 'cp', ...copyArguments(source, target)];
    check(await run('setpriv', words, { timeout: dayInMilliseconds, signal, onStart: watch }));
  } finally {
    clearInterval(timer);
  }
  must(await syncfs(target), 'bring the copy to the disk');
  report(totalBytes);
}

/** The directories as our descriptors, so that no name on the way can be exchanged. */
function copyArguments(source: number, target: number): readonly string[] {
  const ours = `/proc/${process.pid}/fd`;
  return ['-a', '--reflink=auto', '--sparse=auto', `${ours}/${source}/.`, `${ours}/${target}`];
}

function check({ code, signal, stderr }: Exit): void {
  if (code === 0) return;
  // A signal to our whole process group or control group says nothing about the copy: it can be made anew.
  if (code === null) throw new Aborted(`cp was killed by ${signal}; the copy has to be made again`);
  const reason = stderr.trim().split('\n').at(-1) ?? '';
  if (/No space left on device|Disk quota exceeded/.test(stderr)) {
    throw new Exhausted(`the copy does not fit; make room and try again (${reason})`);
  }
  throw new Internal(`cp failed (exit code ${code}): ${reason}`);
}

async function writtenBy(pid: number): Promise<number> {
  const counters = await readFile(`/proc/${pid}/io`, 'utf8').catch(() => '');
  return Number(/^wchar: (\d+)$/m.exec(counters)?.[1] ?? 0);
}
