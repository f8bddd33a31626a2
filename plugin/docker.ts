import { type Result, type RunOptions, run, tail } from '../scripts/lib/process.ts';
import { Internal } from '../src/errors/errors.ts';

const minutes = 60_000;

/** Runs the docker command on the engine of DOCKER_HOST, whatever it answers. */
export function tryDocker(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return run('docker', args, { timeoutMs: 15 * minutes, ...options });
}

/** Runs the docker command. @returns what it prints @throws Internal with its last words */
export async function docker(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await tryDocker(args, options);
  if (exitCode === 0) return stdout.trim();
  throw new Internal(
    `docker ${args.slice(0, 2).join(' ')} failed: ${tail(`${stdout}\n${stderr}`.trim(), 15)}`,
  );
}

/** Hands on the last line of each piece of output, for a line of progress. */
export function lastLine(onProgress: (text: string) => void): (text: string) => void {
  return text => {
    const line = tail(text, 1).trim();
    if (line !== '') onProgress(line);
  };
}
