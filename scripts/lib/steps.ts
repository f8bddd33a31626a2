import { Listr } from 'listr2';

/** One step of longer work. @returns what came of it, for its line */
export type Step = readonly [title: string, act: (onProgress: (text: string) => void) => Promise<string>];

/** Runs steps one after another, each on a line that shows how far it is. @throws what the first one to fail throws */
export async function runSteps(steps: readonly Step[]): Promise<void> {
  let failure: unknown;
  const tasks = steps.map(([title, act]) => ({
    title,
    task: async (_: unknown, task: { title: string; output: string }) => {
      try {
        task.title = `${title}: ${await act(text => {
          task.output = text;
        })}`;
      } catch (error) {
        failure = error;
        throw new Error('see below');
      }
    },
  }));
  const list = new Listr(tasks, { fallbackRenderer: 'simple', rendererOptions: { showErrorMessage: false } });
  await list.run().catch((error: unknown) => {
    throw failure ?? error;
  });
}
