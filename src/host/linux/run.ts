import { spawn } from 'node:child_process';
import { Aborted, DeadlineExceeded, Unimplemented } from '../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';

/** How a process ended. */
export interface Exit {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  /** The last 4 KiB. */
  readonly stderr: string;
}

export interface RunOptions {
  /** Milliseconds after which the process is killed. */
  readonly timeout: number;
  readonly signal?: AbortSignal;
  readonly onStart?: (pid: number) => void;
}

const keptOutput = 1024 * 1024;
const keptErrors = 4096;

/**
 * Runs a program with its arguments as they are, without a shell, and in the C locale. Resolves when the
 * process is gone, also after it was killed.
 * @throws Unimplemented when the program is not installed, DeadlineExceeded, Aborted
 */
export async function run(program: string, args: readonly string[], options: RunOptions): Promise<Exit> {
  const timeout = AbortSignal.timeout(options.timeout);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  if (options.signal?.aborted) throw new Aborted(`${program} was cancelled`);
  const exit = await exitOf(program, args, signal, options.onStart);
  if (options.signal?.aborted) throw new Aborted(`${program} was cancelled`);
  if (timeout.aborted && exit.code === null) {
    throw new DeadlineExceeded(`${program} ran longer than ${options.timeout / 1000} s and was stopped`);
  }
  return exit;
}

function exitOf(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
  onStart: RunOptions['onStart'],
): Promise<Exit> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const kill = () => child.kill('SIGKILL');
    signal.addEventListener('abort', kill, { once: true });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(-keptOutput);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-keptErrors);
    });
    child.once('error', error => {
      signal.removeEventListener('abort', kill);
      const missing = errorCode(error) === 'ENOENT';
      reject(
        missing
          ? new Unimplemented(`${program} is not installed; install the package that has it`)
          : fromNodeError(error, `run ${program}`),
      );
    });
    child.once('close', (code, signalName) => {
      signal.removeEventListener('abort', kill);
      resolve({ code, signal: signalName, stdout, stderr });
    });
    if (child.pid !== undefined) onStart?.(child.pid);
  });
}
