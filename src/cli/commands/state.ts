import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { RebuildReport } from '../../core/volumes/rebuild.ts';
import type { StateFinding } from '../../core/volumes/view.ts';
import { Aborted, InvalidArgument } from '../../errors/errors.ts';
import { loadComposition } from '../composition.ts';
import { connect } from '../connect.ts';
import { manual } from '../manual.ts';
import { type Format, formatOption, print, table, toJson } from '../output.ts';
import { withProgress } from '../progress.ts';
import { reportFindings } from '../report.ts';
import { addConfigFlags, configOf } from '../settings.ts';

/** `varve state` */
export function stateCommand(program: Command): void {
  const state = program.command('state').description('Export, check and restore what varve has recorded.');
  manual(state, {
    examples: [['varve state check', 'compare the records with the disk and the mount table']],
    exitCodes: ['ok', 'failure', 'usage', 'conflict', 'unavailable', 'internal'],
  });
  addExport(state);
  addCheck(state);
  addRebuild(state);
}

function addExport(state: Command): void {
  const command = state
    .command('export')
    .description('Print every record. There are no secrets in it, because varve accepts none.')
    .addOption(formatOption(['json', 'yaml']))
    .action(async ({ format }: { format: Format }, self: Command) => {
      await print(format, await (await connect(self)).exportState(), toJson);
    });
  manual(command, {
    examples: [['varve state export > state.json', 'keep a copy of the records']],
    exitCodes: ['ok', 'usage', 'unavailable', 'internal'],
  });
}

function addCheck(state: Command): void {
  const command = state
    .command('check')
    .description('Compare the records with the disk and the mount table of the running daemon.')
    .option('--repair', 'repair what can be repaired without losing data', false)
    .addOption(formatOption())
    .action(async ({ format, repair }: { format: Format; repair: boolean }, self: Command) => {
      const client = await connect(self);
      const findings = await withProgress('Comparing the records with the disk', () =>
        client.checkState(repair),
      );
      await print(format, findings, findingsText);
      if (findings.some(finding => !finding.repaired)) reportFindings();
    });
  manual(command, {
    examples: [
      ['varve state check', 'only look; the exit code is 1 when something disagrees'],
      ['varve state check --repair', 'the exit code is 1 when something needs a person'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'unavailable', 'internal'],
  });
}

export function findingsText(findings: readonly StateFinding[]): string {
  if (findings.length === 0) return 'The records, the disk and the mount table agree.';
  const rows = findings.map(({ problem, subject, message, repair, repaired }) => {
    const cure = repair === null ? 'by hand' : `${repaired ? 'done' : '--repair'}: ${repair}`;
    return [problem, subject, message, cure];
  });
  return table(['PROBLEM', 'SUBJECT', 'FINDING', 'REPAIR'], rows);
}

function addRebuild(state: Command): void {
  const command = state
    .command('rebuild')
    .description(
      'Restore lost or damaged records from what lies beside the volumes on the disk. No volume is changed. The daemon must be stopped.',
    )
    .option('--yes', 'do not ask', false)
    .addOption(formatOption())
    .action(async ({ format, yes }: { format: Format; yes: boolean }, self: Command) => {
      const { config } = configOf(self);
      if (!yes) await confirm(`Rebuild the records of ${config.root} from the disk?`);
      const { rebuildState } = await loadComposition();
      const report = await withProgress('Reading the volumes', progress => rebuildState(config, progress));
      await print(format, report, rebuildText);
      if (report.damaged.length > 0) reportFindings();
    });
  manual(addConfigFlags(command), {
    examples: [
      ['varve state rebuild', 'after the database was lost; asks first'],
      ['varve state rebuild --yes --root /data/varve', 'in a script'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'conflict', 'unavailable', 'internal'],
  });
}

export function rebuildText({ restored, kept, damaged }: RebuildReport): string {
  const summary = `${restored} restored, ${kept} kept, ${damaged.length} damaged`;
  if (damaged.length === 0) return summary;
  const rows = damaged.map(({ subject, message }) => [subject, message]);
  return `${summary}\n\n${table(['DAMAGED', 'WHY'], rows)}`;
}

/** @throws InvalidArgument when nobody is there to ask; Aborted when the answer is no */
async function confirm(question: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new InvalidArgument(`${question} Nobody is there to answer; confirm with --yes`);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `).finally(() => terminal.close());
  if (!/^y(es)?$/i.test(answer.trim())) throw new Aborted('nothing was changed');
}
