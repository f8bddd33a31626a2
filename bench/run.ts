/** `npm run bench -- [--json FILE] [NAME...]`: measures varve beside what a user would pick instead. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { nodeBinary, repository } from '../scripts/lib/paths.ts';
import { must } from '../scripts/lib/process.ts';
import type { Row } from './compare.ts';
import { benchEngine } from './engine.ts';
import { benchEngineAbsent, benchEngineStart } from './engine-start.ts';
import { benchLayers } from './layers.ts';
import { benchVolume } from './volume.ts';

const usual = {
  volume: benchVolume,
  'engine-start': benchEngineStart,
  layers: () => benchLayers(),
};
/** The last two take ten minutes and more, and run when they are named. */
const benches: Readonly<Record<string, () => Promise<Row[]>>> = {
  ...usual,
  engine: () => benchEngine(),
  'engine-absent': benchEngineAbsent,
};

const { values, positionals } = parseArgs({
  options: { json: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  allowPositionals: true,
});
const unknown = positionals.find(name => !Object.hasOwn(benches, name));
if (values.help === true || unknown !== undefined) {
  if (unknown !== undefined) console.error(`bench: there is no ${JSON.stringify(unknown)}`);
  console.error(
    `npm run bench -- [--json FILE] [NAME...]\nthe names are: ${Object.keys(benches).join(', ')}`,
  );
  process.exit(unknown === undefined ? 0 : 2);
}

await must(nodeBinary, [join(repository, 'scripts/build.ts')]);
const rows: Row[] = [];
for (const name of positionals.length === 0 ? Object.keys(usual) : positionals) {
  rows.push(...((await benches[name]?.()) ?? []));
}
const table = new Table({
  head: ['work', 'against', 'ours', 'theirs', 'unit', 'ratio', 'A/A', 'goal', '', 'runs'],
  style: { head: [], border: [] },
});
for (const { work, against, ours, theirs, unit, ratio, band, goal, met, runs } of rows) {
  const verdict = met === null ? '' : met ? 'met' : 'MISSED';
  table.push([
    work,
    against,
    figure(ours),
    figure(theirs),
    unit,
    figure(ratio),
    figure(band),
    goal,
    verdict,
    runs,
  ]);
}
console.log(table.toString());
console.log('ratio: ours over theirs for times, theirs over ours for throughput; lower is better.');
console.log('A/A: the other side against itself in the same run; a goal is missed only beyond it.');
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);

function figure(value: number | null): string {
  return value === null ? '-' : value.toPrecision(3);
}
