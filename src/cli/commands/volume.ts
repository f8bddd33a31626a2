import type { Command } from 'commander';
import type { VolumeView } from '../../core/volumes/view.ts';
import { InvalidArgument } from '../../errors/errors.ts';
import { connect } from '../connect.ts';
import { manual } from '../manual.ts';
import { type Format, formatOption, print, printLine } from '../output.ts';
import { withProgress } from '../progress.ts';
import { forEachName } from '../report.ts';
import { untilReady } from '../until-ready.ts';
import { usageText, volumesText } from '../volume-text.ts';

/** `varve volume` */
export function volumeCommand(program: Command): void {
  const volume = program
    .command('volume')
    .description('List, make, inspect, protect, measure and remove volumes.');
  manual(volume, {
    examples: [['varve volume ls', 'what volumes there are']],
    exitCodes: ['ok', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
  addList(volume);
  addInspect(volume);
  addCreate(volume);
  addRemove(volume);
  addProtection(volume, true);
  addProtection(volume, false);
  addUsage(volume);
}

function addList(volume: Command): void {
  const command = volume
    .command('ls')
    .description('List the volumes of every driver of this daemon.')
    .option('-q, --quiet', 'only names', false)
    .addOption(formatOption())
    .action(async ({ quiet, format }: { quiet: boolean; format: Format }, self: Command) => {
      const volumes = await (await connect(self)).volumes();
      if (!quiet) await print(format, volumes, list => volumesText(list, new Date()));
      else for (const { name } of volumes) printLine(name);
    });
  manual(command, {
    examples: [
      ['varve volume ls', 'a table: state, space used, limit, consumers'],
      ['varve volume ls --format json', 'everything, for a program'],
    ],
    exitCodes: ['ok', 'usage', 'unavailable', 'internal'],
  });
}

function addInspect(volume: Command): void {
  const command = volume
    .command('inspect')
    .description('Print everything that is known of volumes, as JSON.')
    .argument('<volume...>', 'names of volumes')
    .addOption(formatOption(['json', 'yaml']))
    .action(async (names: string[], { format }: { format: Format }, self: Command) => {
      const client = await connect(self);
      const found = await forEachName(names, name => client.volume(name));
      await print(format, found, () => '');
    });
  manual(command, {
    examples: [
      ['varve volume inspect db', 'one volume, in a list of one'],
      ['varve volume inspect db cache --format yaml', 'two, as YAML'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

interface CreateOptions {
  readonly option: Readonly<Record<string, string>>;
  readonly driver?: string;
  readonly wait: boolean;
}

function addCreate(volume: Command): void {
  const command = volume
    .command('create')
    .description('Make a volume, as `docker volume create -d varve` does, and wait until it is ready.')
    .argument('<name>', 'name of the new volume')
    .option(
      '-o, --option <key=value>',
      'an option, as docker takes it; `-o help` lists them; repeatable',
      addOption,
      {},
    )
    .option('--driver <name>', 'driver under which the engine sees it (default: varve)')
    .option('--no-wait', 'return while data is still being copied into it')
    .action(async (name: string, { option, driver, wait }: CreateOptions, self: Command) => {
      const client = await connect(self);
      const view = await client.createVolume({
        name,
        options: option,
        ...(driver === undefined ? {} : { driver }),
      });
      if (wait) await withProgress(`Copying into ${name}`, report => untilReady(client, view, report));
      printLine(name);
    });
  manual(command, {
    examples: [
      ['varve volume create db -o uid=1000 -o mode=0700', 'an empty volume with an owner'],
      ['varve volume create db -o from-path=/srv/db', 'with a copy of a directory; shows how far it is'],
      ['varve volume create db -o from-path=/srv/db --no-wait', 'see `varve volume ls` for how far it is'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}

/** @throws InvalidArgument for an option that is given twice */
export function addOption(text: string, sofar: Readonly<Record<string, string>>): Record<string, string> {
  const [, name = text, value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
  if (Object.hasOwn(sofar, name))
    throw new InvalidArgument(`the option ${name} is given twice; give it once`);
  return Object.fromEntries([...Object.entries(sofar), [name, value]]);
}

function addRemove(volume: Command): void {
  const command = volume
    .command('rm')
    .description('Remove volumes and their data, for good. A volume in use or protected is refused.')
    .argument('<volume...>', 'names of volumes')
    .action(async (names: string[], _options, self: Command) => {
      const client = await connect(self);
      for (const name of await forEachName(names, async name => client.removeVolume(name).then(() => name))) {
        printLine(name);
      }
    });
  manual(command, {
    examples: [['varve volume rm db cache', 'prints the name of each that is gone']],
    exitCodes: ['ok', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}

function addProtection(volume: Command, wanted: boolean): void {
  const verb = wanted ? 'protect' : 'unprotect';
  const command = volume
    .command(verb)
    .description(wanted ? 'Refuse to remove volumes, from docker as well.' : 'Let volumes be removed again.')
    .argument('<volume...>', 'names of volumes')
    .action(async (names: string[], _options, self: Command) => {
      const client = await connect(self);
      const done = await forEachName(names, name => client.protectVolume(name, wanted));
      for (const { name } of done) printLine(name);
    });
  manual(command, {
    examples: [
      [
        `varve volume ${verb} db`,
        wanted ? '`docker volume rm db` then fails' : 'until it is protected again',
      ],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}

function addUsage(volume: Command): void {
  const command = volume
    .command('du')
    .description('Measure the space that volumes occupy now. This reads every directory in them.')
    .argument('[volume...]', 'names of volumes (default: all)')
    .addOption(formatOption())
    .action(async (names: string[], { format }: { format: Format }, self: Command) => {
      const client = await connect(self);
      const wanted = names.length > 0 ? names : (await client.volumes()).map(({ name }) => name);
      const measured = await withProgress<VolumeView[]>(`Measuring ${wanted.length} volumes`, report =>
        forEachName(wanted, (name, at) => {
          report(`${at + 1} of ${wanted.length}: ${name}`);
          return client.measureVolume(name);
        }),
      );
      const usage = measured.map(({ name, usage }) => ({ name, ...usage }));
      await print(format, usage, usageText);
    });
  manual(command, {
    examples: [
      ['varve volume du', 'every volume, and the sum'],
      ['varve volume du db --format json', 'bytes and inodes, for a program'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}
