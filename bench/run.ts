/** `npm run bench -- [--json FILE] [NAME...]`: measures varve beside what a user would pick instead. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { nodeBinary, repository } from '../scripts/lib/paths.ts';
import { must } from '../scripts/lib/process.ts';
import type { Row } from './compare.ts';
import { engineBenches } from './engine.ts';
import { benchEngineAbsent, benchEngineStart } from './engine-start.ts';
import { layerBenches } from './layers.ts';
import { benchVolume } from './volume.ts';

const benches: Readonly<Record<string, () => AsyncGenerator<Row>>> = {
  volume: benchVolume,
  'engine-start': benchEngineStart,
  'engine-absent': benchEngineAbsent,
  ...layerBenches,
  ...engineBenches,
};
/** Names of several. */
const sets: Readonly<Record<string, readonly string[]>> = {
  layers: Object.keys(layerBenches),
  engine: Object.keys(engineBenches),
};
/** The others take ten minutes and more, and run when they are named. */
const usual = ['volume', 'engine-start', 'layers'];

const { values, positionals } = parseArgs({
  options: { json: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  allowPositionals: true,
});
const known = [...Object.keys(sets), ...Object.keys(benches)];
const unknown = positionals.find(name => !known.includes(name));
if (values.help === true || unknown !== undefined) {
  if (unknown !== undefined) console.error(`bench: there is no ${JSON.stringify(unknown)}`);
  console.error(`npm run bench -- [--json FILE] [NAME...]\nthe names are: ${known.join(', ')}`);
  process.exit(unknown === undefined ? 0 : 2);
}

await must(nodeBinary, [join(repository, 'scripts/build.ts')]);
const rows: Row[] = [];
const asked = positionals.length === 0 ? usual : positionals;
for (const name of asked.flatMap(it => sets[it] ?? [it])) {
  for await (const row of benches[name]?.() ?? []) {
    rows.push(row);
    const { work, against, ours, theirs, unit } = row;
    console.error(`${work}: ${figure(ours)} ${unit}, against ${against} ${figure(theirs)}`);
  }
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
