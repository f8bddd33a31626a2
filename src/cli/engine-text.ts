import type { EngineReport, EngineSetup, SetupFile, SetupLine } from '../core/engine-setup/view.ts';
import { table } from './output.ts';

/** What `varve engine setup` says of what it did. */
export function setupText(setup: EngineSetup): string {
  const { files, lines, checkedBy, notes, restart, restarted } = setup;
  const next = restarted
    ? 'Restarted. `varve engine check` says whether it uses varve.'
    : `Then restart it: ${restart}. \`varve engine check\` says whether it uses varve.`;
  return [
    titleOf(setup),
    ...files.map(writtenText),
    ...(checkedBy === null ? [] : [`checked by  ${checkedBy}`]),
    ...lines.map(lineText),
    '',
    ...notes,
    next,
  ].join('\n');
}

function titleOf({ engine, version, name, face, socket }: EngineSetup): string {
  return `${engine}${version === null ? '' : ` ${version}`}: ${face} ${name} at ${socket}`;
}

function writtenText({ path, state, backup }: SetupFile): string {
  const words = { new: 'wrote', changed: 'changed', kept: 'unchanged' };
  return `${words[state].padEnd(10)}  ${path}${backup === null ? '' : `, before: ${backup}`}`;
}

function lineText({ path, line, replaces }: SetupLine): string {
  return replaces === null
    ? `to add      at the top of ${path}:\n  ${line}`
    : `to change   in ${path}:\n  ${replaces}\n  becomes\n  ${line}`;
}

/** The files as they would be, each after its path. */
export function printedSetup({ files, lines, notes }: EngineSetup): string {
  return [
    ...files.map(({ path, text }) => `==> ${path} <==\n${text.trimEnd()}\n`),
    ...lines.map(line => `${lineText(line)}\n`),
    ...notes,
  ].join('\n');
}

/** The table of `varve engine check`. */
export function reportsText(reports: readonly EngineReport[]): string {
  const rows = reports.map(({ engine, version, reachable, usesVarve, face, address, socket, missing }) => [
    engine,
    version ?? '-',
    reachable ? (usesVarve ? 'yes' : 'no') : 'does not answer',
    face ?? '-',
    socket ?? '-',
    address,
    missing
      .map(({ what, fix, optional }) => `${optional ? 'could have: ' : ''}${what}\nfix: ${fix}`)
      .join('\n'),
  ]);
  return table(['ENGINE', 'VERSION', 'USES VARVE', 'AS', 'SOCKET', 'ADDRESS', 'MISSING'], rows);
}
