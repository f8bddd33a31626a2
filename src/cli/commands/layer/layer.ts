import type { Command } from 'commander';
import { manual } from '../../manual.ts';
import { changesCommand, diffCommand } from './changes.ts';
import { exportCommand } from './export.ts';
import { importCommand } from './import.ts';
import { inspectCommand, listCommand } from './list.ts';
import { removeCommand } from './remove.ts';
import { garbageCommand, spaceCommand } from './space.ts';
import { treeCommand } from './tree.ts';
import { verifyCommand } from './verify.ts';

/** `varve layer` */
export function layerCommand(program: Command): void {
  const layer = program
    .command('layer')
    .description(
      'Look into the layers that images, containers and volumes rest on, and bring archives in and out.',
    );
  manual(layer, {
    examples: [
      ['varve layer tree', 'who rests on what, and what each layer takes'],
      ['varve layer du', 'where the space went'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
  const commands = [
    ...[listCommand, treeCommand, inspectCommand, spaceCommand, diffCommand, changesCommand],
    ...[verifyCommand, garbageCommand, importCommand, exportCommand, removeCommand],
  ];
  for (const add of commands) add(layer);
}
