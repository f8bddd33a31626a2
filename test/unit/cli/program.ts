import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { varveScript } from '../../../scripts/lib/paths.ts';

/** How a command ended, and what it said. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the `varve` command, with nothing of varve in its environment but these variables. */
export function startVarve(
  args: readonly string[],
  variables: Readonly<Record<string, string>>,
  stdin: 'ignore' | 'pipe' = 'ignore',
): ChildProcess {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(VARVE_|DOCKER_HOST$)/.test(name));
  const env = { ...Object.fromEntries(inherited), ...variables };
  return spawn(process.execPath, [varveScript, ...args], { env, stdio: [stdin, 'pipe', 'pipe'] });
}

export async function outcome(child: ChildProcess): Promise<Outcome> {
  if (child.stdout === null || child.stderr === null) throw new Error('no pipes');
  const ended = once(child, 'close');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await ended;
  return { code: child.exitCode, stdout, stderr };
}
