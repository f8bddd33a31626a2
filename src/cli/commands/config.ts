import type { Command } from 'commander';
import type { ConfigEntry } from '../../config/load.ts';
import { manual } from '../manual.ts';
import { type Format, formatOption, print, table } from '../output.ts';
import { addConfigFlags, configOf } from '../settings.ts';

/** `varve config` */
export function configCommand(program: Command): void {
  const command = program
    .command('config')
    .description(
      'Show the effective configuration and where each value came from. It is read here and now: a running daemon has what it read when it started.',
    )
    .addOption(formatOption())
    .action(async ({ format }: { format: Format }, self: Command) => {
      await print(format, configOf(self).entries, configText);
    });
  manual(addConfigFlags(command), {
    examples: [
      ['varve config', 'every key with its value, source, unit and meaning'],
      ['varve config --config ./new.yaml', 'check a file before the daemon gets it'],
      ['varve config --format json', 'the same for a program'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable'],
  });
}

export function configText(entries: readonly ConfigEntry[]): string {
  const rows = entries.map(({ key, value, unit, source, doc }) => [
    key,
    valueText(value),
    unit ?? '',
    source,
    doc,
  ]);
  return table(['KEY', 'VALUE', 'UNIT', 'SOURCE', 'MEANING'], rows);
}

function valueText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  return (
    Object.entries(value)
      .map(([name, inner]) => `${name}=${inner}`)
      .join('\n') || '-'
  );
}
