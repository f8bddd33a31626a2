import type { TestResult } from './results.ts';

/** Titles of the runs of the layer store's suite (test/support/layer-runs.ts): `LayerStore: DRIVER on FILESYSTEM ...`. */
const run = /^LayerStore: (\S+) on (\S+) /;

/** How the suite of layer stores went, a line for each driver and a column for each file system; none without one. */
export function layerTable(results: readonly TestResult[]): readonly string[] {
  const cells = new Map<string, { passed: number; all: number }>();
  for (const { title, outcome } of results) {
    const [, driver, fileSystem] = run.exec(title) ?? [];
    if (driver === undefined || fileSystem === undefined) continue;
    const cell = cells.get(`${driver} ${fileSystem}`) ?? { passed: 0, all: 0 };
    cells.set(`${driver} ${fileSystem}`, cell);
    cell.all += 1;
    if (outcome === 'passed') cell.passed += 1;
  }
  if (cells.size === 0) return [];
  const names = (index: 0 | 1) =>
    [...new Set([...cells.keys()].map(key => key.split(' ')[index] ?? ''))].sort();
  const [drivers, fileSystems] = [names(0), names(1)];
  const text = (driver: string, fileSystem: string) => {
    const cell = cells.get(`${driver} ${fileSystem}`);
    return cell === undefined ? '-' : `${cell.passed} of ${cell.all}`;
  };
  const rows = [
    ['LayerStore', ...fileSystems],
    ...drivers.map(driver => [driver, ...fileSystems.map(fileSystem => text(driver, fileSystem))]),
  ];
  const width = Math.max(...rows.flat().map(cell => cell.length)) + 2;
  return rows.map(row =>
    row
      .map(cell => cell.padEnd(width))
      .join('')
      .trimEnd(),
  );
}
