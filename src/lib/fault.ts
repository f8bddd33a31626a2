import { appendFileSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Internal } from '../errors/errors.ts';

/**
 * Named places where a test can make varve fail.
 *
 * When the environment variable `VARVE_FAULTS` names a file, each line of it is `POINT ACTION`, and the
 * file is read again at every point, so that a test can change it while the daemon runs. Every point that is
 * passed is appended to `FILE.hits`. Without the variable a point costs one comparison.
 *
 * - `kill`: this process ends with SIGKILL, as in a crash.
 * - `error`: the point throws {@link Internal}.
 * - `hold`: a {@link step} or {@link gate} waits there until the file says something else.
 * - `drop`, `lose`, `empty`, `hang`: the caller acts (a server closes the connection before it does anything, or
 *   when all is done and only the answer is missing; answers `{}`; never answers).
 */
export type FaultAction = 'kill' | 'error' | 'hold' | 'drop' | 'lose' | 'empty' | 'hang';

const file = process.env.VARVE_FAULTS;

/** Passes one point: returns the action that the caller has to take, if any. */
export function faultPoint(point: string): FaultAction | undefined {
  if (file === undefined) return undefined;
  appendFileSync(`${file}.hits`, `${point}\n`);
  return act(point, configuredAction(file, point));
}

/** Passes one point that can hold whoever comes. */
export async function gate(point: string): Promise<void> {
  let action = faultPoint(point);
  while (file !== undefined && action === 'hold') {
    await pause(20);
    action = act(point, configuredAction(file, point));
  }
}

/**
 * Does one step that outlives a crash (a durable write, mount, rename or delete) between two points,
 * `NAME:before` and `NAME:after`. The crash suite finds the names in the source, so NAME is always a literal.
 */
export async function step<T>(name: string, work: () => T | Promise<T>): Promise<T> {
  await gate(`${name}:before`);
  const result = await work();
  await gate(`${name}:after`);
  return result;
}

/** Like {@link step}, for work that must not be interrupted by anything else; nothing can hold it. */
export function stepSync<T>(name: string, work: () => T): T {
  faultPoint(`${name}:before`);
  const result = work();
  faultPoint(`${name}:after`);
  return result;
}

function act(point: string, action: FaultAction | undefined): FaultAction | undefined {
  if (action === 'kill') process.kill(process.pid, 'SIGKILL');
  if (action === 'error') throw new Internal(`fault injected at ${point}`);
  return action;
}

function configuredAction(path: string, point: string): FaultAction | undefined {
  const lines = readFileSync(path, 'utf8').split('\n');
  const line = lines.map(text => text.trim().split(' ')).find(([name]) => name === point);
  return line?.[1] as FaultAction | undefined;
}
