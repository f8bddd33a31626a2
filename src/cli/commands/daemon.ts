import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import { loadComposition } from '../composition.ts';
import { manual } from '../manual.ts';
import { report } from '../report.ts';
import { addConfigFlags, configOf } from '../settings.ts';

/** `varve daemon` */
export function daemonCommand(program: Command): void {
  const command = program
    .command('daemon')
    .description(
      'Serve volumes to the container engine, in the foreground. SIGTERM and SIGINT let running requests finish; a second one ends at once. Mounted volumes stay mounted.',
    )
    .action(async (_options, self: Command) => {
      // A daemon whose requests leave a few kilobytes of garbage each needs no young generation of 16 MB, to which
      // V8 would let it grow and stay.
      setFlagsFromString('--semi-space-growth-factor=1');
      setFlagsFromString('--optimize-for-size');
      // libuv has 4 threads for calls that may block; a dead network file system would take them all.
      process.env['UV_THREADPOOL_SIZE'] ??= '16';
      const run = async (): Promise<void> => {
        const { config } = configOf(self);
        const { runDaemon } = await loadComposition();
        await runDaemon(config);
      };
      await (isManaged(self) ? untilGivenUp(run) : run());
    });
  manual(addConfigFlags(command), {
    examples: [
      ['varve daemon', 'with /etc/varve/config.yaml, or the defaults'],
      ['varve daemon --root /data/varve --log-level debug', 'other keys for one run'],
      ['VARVE_ENGINE=none varve daemon', 'without asking the engine who uses a volume'],
    ],
    exitCodes: ['ok', 'usage', 'conflict', 'unavailable', 'internal'],
  });
}

/** Whether the manifest of the managed plugin starts us: it says so with a flag, so that no wrong setting hides it. */
function isManaged(command: Command): boolean {
  return command.optsWithGlobals()['managed'] === 'true';
}

/**
 * Runs the daemon; when it cannot start, says why and waits for SIGTERM. An engine that enables a managed plugin which
 * ends at once cannot enable it again ("id already in use", Docker 20.10). It sends the signal when it has given up.
 */
async function untilGivenUp(run: () => Promise<void>): Promise<void> {
  const signalled = once(process, 'SIGTERM');
  try {
    await run();
  } catch (error) {
    report(error);
    const staysAlive = setInterval(() => {}, 60_000);
    await signalled;
    clearInterval(staysAlive);
  }
}
