import type { Command } from 'commander';
import type { StatusView } from '../../core/volumes/view.ts';
import { connect } from '../connect.ts';
import { manual } from '../manual.ts';
import { ago, type Format, formatOption, print, printable, size, table } from '../output.ts';

/** `varve status` */
export function statusCommand(program: Command): void {
  const command = program
    .command('status')
    .description('Show the running daemon: its sockets, its engine, its pools, and what needs a person.')
    .addOption(formatOption())
    .action(async ({ format }: { format: Format }, self: Command) => {
      await print(format, await (await connect(self)).status(), status => statusText(status, new Date()));
    });
  manual(command, {
    examples: [
      ['varve status', 'an overview'],
      ['varve status --format json', 'the same for a program'],
    ],
    exitCodes: ['ok', 'usage', 'unavailable', 'internal'],
  });
}

export function statusText(status: StatusView, now: Date): string {
  const { engine, volumes } = status;
  const reachable = engine.reachable
    ? (engine.version ?? 'reachable')
    : `not reachable: ${engine.error ?? 'unknown'}`;
  const facts = [
    ['Version', status.version],
    ['Process', `${status.pid}, started ${ago(status.startedAt, now)}`],
    ['Root', status.root],
    ['Engine', engine.address === 'none' ? 'none' : `${engine.address}, ${reachable}`],
    ['Volumes', `${volumes.total}, ${volumes.mounted} mounted, ${volumes.unhealthy} unhealthy`],
  ];
  const width = Math.max(...facts.map(([name = '']) => name.length));
  const drivers = status.drivers.map(({ name, pool, addresses }) => [name, pool, addresses.join('\n')]);
  return [
    ...facts.map(([name = '', value = '']) => `${name.padEnd(width)}   ${printable(value)}`),
    '',
    table(['DRIVER', 'POOL', 'ADDRESS'], drivers),
    ...snapshotterTable(status),
    '',
    poolTable(status),
    ...status.warnings.flatMap(warning => ['', `Warning: ${printable(warning)}`]),
  ].join('\n');
}

/** A managed plugin has none. */
function snapshotterTable({ snapshotters }: StatusView): readonly string[] {
  const rows = snapshotters.map(({ name, layerStore, addresses }) => [
    name,
    layerStore,
    addresses.join('\n'),
  ]);
  return rows.length === 0 ? [] : ['', table(['SNAPSHOTTER', 'LAYER STORE', 'ADDRESS'], rows)];
}

function poolTable({ pools }: StatusView): string {
  const rows = pools.map(pool => [
    pool.name,
    pool.driver,
    pool.root,
    pool.health,
    pool.capabilities.quota,
    size(pool.freeBytes),
    size(pool.totalBytes),
    String(pool.volumes),
  ]);
  return table(['POOL', 'KIND', 'ROOT', 'HEALTH', 'QUOTA', 'FREE', 'TOTAL', 'VOLUMES'], rows);
}
