import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Internal, messageOf } from '../../src/errors/errors.ts';
import { identify, isAlive, kill, type ProcessId } from './proc.ts';
import { tail } from './process.ts';
import { until } from './wait.ts';

export interface Launch {
  readonly program: string;
  readonly args: readonly string[];
  /** Where it works. */
  readonly directory: string;
  /** The file that it logs to, at its end. */
  readonly log: string;
  /** Searched before PATH, by what it starts as well. */
  readonly binDir?: string | undefined;
  readonly answers: () => Promise<boolean>;
  readonly readyMs: number;
}

/** Starts a server that outlives us, and waits until it answers. @throws Internal with the end of its log */
export async function launch(what: Launch): Promise<ProcessId> {
  const log = openSync(what.log, 'a');
  const child = spawn(what.program, what.args, {
    cwd: what.directory,
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, PATH: [what.binDir, process.env.PATH].filter(Boolean).join(':') },
  });
  closeSync(log);
  const failure = new Promise<never>((_, reject) => child.on('error', reject));
  child.unref();
  return Promise.race([failure, ready(child.pid, what)]);
}

async function ready(pid: number | undefined, what: Launch): Promise<ProcessId> {
  const id = pid === undefined ? undefined : identify(pid);
  if (id === undefined) return broken(what, 'ended at once');
  const answer = await until(`${what.program} to answer`, what.readyMs, async () => {
    if (!isAlive(id)) return 'ended before it answered';
    return (await what.answers()) && 'ready';
  }).catch(messageOf);
  if (answer === 'ready') return id;
  await kill(id);
  return broken(what, answer);
}

async function broken({ program, log }: Launch, what: string): Promise<never> {
  const text = await readFile(log, 'utf8').catch(() => '');
  throw new Internal(`${program} ${what}; the end of ${log}:\n${tail(text, 15)}`);
}
