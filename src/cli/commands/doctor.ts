import type { Command } from 'commander';
import type { DoctorFinding } from '../../core/volumes/view.ts';
import { loadComposition } from '../composition.ts';
import { manual } from '../manual.ts';
import { type Format, formatOption, print, table } from '../output.ts';
import { reportFindings } from '../report.ts';
import { addConfigFlags, configOf } from '../settings.ts';

/** `varve doctor` */
export function doctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description('Say what works on this host and what does not, and how to fix it. The daemon need not run.')
    .addOption(formatOption())
    .action(async ({ format }: { format: Format }, self: Command) => {
      const { config } = configOf(self);
      const { examineHost } = await loadComposition();
      const findings = await examineHost(config);
      await print(format, findings, doctorText);
      if (findings.some(finding => finding.verdict === 'failure')) reportFindings();
    });
  manual(addConfigFlags(command), {
    examples: [
      ['varve doctor', 'examine this host'],
      ['varve doctor --root /data/varve', 'as if the data were there'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'internal'],
  });
}

export function doctorText(findings: readonly DoctorFinding[]): string {
  const rows = findings.map(({ check, verdict, message, fix }) => [
    verdict,
    check,
    fix === null ? message : `${message}\nfix: ${fix}`,
  ]);
  return table(['VERDICT', 'CHECK', 'FINDING'], rows);
}
