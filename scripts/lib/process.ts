import { type ChildProcess, spawn } from 'node:child_process';
import { Internal, Unavailable } from '../../src/errors/errors.ts';

export interface Result {
  readonly stdout: string;
  readonly stderr: string;
  /** Null when a signal ended the process. */
  readonly exitCode: number | null;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  /** Sends SIGINT to it. */
  readonly interrupt?: AbortSignal;
  /** Called with each piece of output as it comes. */
  readonly onOutput?: (text: string) => void;
}

const running = new Set<ChildProcess>();

/** Sends a signal to every program that runs now. */
export function signalAll(signal: NodeJS.Signals): void {
  for (const child of running) child.kill(signal);
}

/** Runs a program to its end, whatever its exit code. @throws Unavailable when it cannot be started */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? { ...process.env, LC_ALL: 'C' },
    timeout: options.timeoutMs,
    killSignal: 'SIGKILL',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  options.interrupt?.addEventListener('abort', () => child.kill('SIGINT'));
  return collect(command, child, options.onOutput);
}

/** Like {@link run}. @throws Internal with the end of its output when the exit code is not 0 */
export async function must(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Result> {
  const result = await run(command, args, options);
  if (result.exitCode === 0) return result;
  const how = result.exitCode === null ? 'was ended by a signal' : `ended with exit code ${result.exitCode}`;
  throw new Internal(`${[command, ...args].join(' ')} ${how}\n${tail(result.stdout + result.stderr, 30)}`);
}

/** The last lines of a text. */
export function tail(text: string, lines: number): string {
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}

function collect(command: string, child: ChildProcess, onOutput?: (text: string) => void): Promise<Result> {
  return new Promise((resolve, reject) => {
    const output = { stdout: '', stderr: '' };
    running.add(child);
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
        onOutput?.(text);
      });
    }
    child.on('error', error => {
      running.delete(child);
      reject(new Unavailable(`${command} cannot be started: ${error.message}`));
    });
    // A process that it left behind may keep the pipes open for ever.
    child.on('exit', () => setTimeout(() => destroyPipes(child), 1_000).unref());
    child.on('close', exitCode => {
      running.delete(child);
      resolve({ ...output, exitCode });
    });
  });
}

function destroyPipes(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
}
