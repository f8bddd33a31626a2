import { setTimeout as delay } from 'node:timers/promises';

/** How long work may take before it shows that it goes on, in milliseconds. */
const patience = 1000;

/**
 * Does work that may take long. After a second it shows, on the terminal of the standard error, that it goes on
 * and what it last reported; nothing of that stays when it is done.
 */
export async function withProgress<T>(
  title: string,
  work: (report: (text: string) => void) => Promise<T>,
): Promise<T> {
  let latest = '';
  let show = (text: string): void => {
    latest = text;
  };
  const result = work(text => show(text));
  if (!process.stderr.isTTY || (await settles(result, patience))) return result;
  const { DefaultRenderer, Listr, ListrLogger, ProcessOutput } = await import('listr2');
  // Listr asks for a terminal on the standard output, which may be a pipe here.
  class Renderer extends DefaultRenderer {
    static override nonTTY = true;
  }
  const processOutput = new ProcessOutput(process.stderr, process.stderr);
  const logger = new ListrLogger({ useIcons: true, toStderr: [], processOutput });
  const task = (_: unknown, self: { output: string }) => {
    show = text => {
      self.output = text;
    };
    show(latest);
    return result.then(() => undefined);
  };
  const list = new Listr([{ title, task }], {
    renderer: Renderer,
    rendererOptions: { clearOutput: true, showErrorMessage: false, logger },
    registerSignalListeners: false,
    exitOnError: false,
  });
  process.once('SIGINT', leave);
  await list.run().finally(() => process.removeListener('SIGINT', leave));
  return result;
}

/** The progress display has hidden the cursor. */
function leave(): void {
  process.stderr.write('\x1b[?25h\n');
  process.exit(130);
}

async function settles(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const stop = new AbortController();
  const done = work.then(
    () => true,
    () => true,
  );
  const late = delay(milliseconds, false, { signal: stop.signal }).catch(() => false);
  return Promise.race([done, late]).finally(() => stop.abort());
}
