import { Listr } from 'listr2';
import { Aborted } from '../../src/errors/errors.ts';
import { signalAll } from './process.ts';

/**
 * One step of longer work. It ends soon after it is interrupted, when the program that it runs fails; a step that
 * would go on after that asks `interrupted`.
 * @returns what came of it, for its line
 */
export type Step = readonly [
  title: string,
  act: (onProgress: (text: string) => void, interrupted: AbortSignal) => Promise<string>,
];

/**
 * Runs steps one after another, each on a line that shows how far it is. SIGINT and SIGTERM end the programs that
 * run, once, so that the steps can clean up with further ones.
 * @throws what the first one to fail throws; Aborted after a signal
 */
export async function runSteps(steps: readonly Step[]): Promise<void> {
  const interruption = new AbortController();
  const interrupt = () => {
    if (interruption.signal.aborted) return;
    interruption.abort(new Aborted('interrupted'));
    signalAll('SIGTERM');
  };
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  try {
    await runUntil(interruption.signal, steps);
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  }
}

async function runUntil(interrupted: AbortSignal, steps: readonly Step[]): Promise<void> {
  let failure: unknown;
  const tasks = steps.map(([title, act]) => ({
    title,
    task: async (_: unknown, task: { title: string; output: string }) => {
      const onProgress = (text: string) => {
        task.output = text;
      };
      try {
        task.title = `${title}: ${await act(onProgress, interrupted)}`;
        interrupted.throwIfAborted();
      } catch (error) {
        failure = interrupted.aborted ? interrupted.reason : error;
        throw new Error('see below');
      }
    },
  }));
  const list = new Listr(tasks, {
    fallbackRenderer: 'simple',
    rendererOptions: { showErrorMessage: false },
    // Its own listener ends the process at once.
    registerSignalListeners: false,
  });
  await list.run().catch((error: unknown) => {
    throw failure ?? error;
  });
}
