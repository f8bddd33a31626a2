import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import { loadComposition } from '../composition.ts';
import { manual } from '../manual.ts';
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
      const { config } = configOf(self);
      const { runDaemon } = await loadComposition();
      await runDaemon(config);
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
