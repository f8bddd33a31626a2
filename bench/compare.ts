/** Side-by-side measurement: ours and theirs in turn, and theirs against itself, in one run. */

export interface Row {
  /** Fixed slug of the work. */
  readonly work: string;
  readonly against: string;
  readonly ours: number;
  readonly theirs: number | null;
  readonly unit: string;
  /** Lower is better, whatever the unit; null where there is nothing to compare with. */
  readonly ratio: number | null;
  /** The other side against itself: how far from 1 a ratio can be by chance. */
  readonly band: number | null;
  readonly goal: string;
  readonly met: boolean | null;
  readonly runs: number;
}

export interface Comparison {
  readonly work: string;
  readonly against: string;
  readonly unit: string;
  readonly runs: number;
  /** `higher` for throughput. */
  readonly better: 'lower' | 'higher';
  /** Undefined: reported only. */
  readonly goal?: { readonly text: string; readonly isMet: (figures: Figures) => boolean };
  /** One measurement of each side, in `unit`. */
  readonly ours: () => Promise<number>;
  readonly theirs: () => Promise<number>;
}

export interface Figures {
  readonly ours: number;
  readonly theirs: number;
  readonly ratio: number;
  readonly band: number;
}

/** Runs ours and theirs in turn, each `runs` times, with theirs twice so that its own spread shows. */
export async function compare(comparison: Comparison): Promise<Row> {
  const { work, against, unit, runs, better, goal } = comparison;
  const samples = { ours: [] as number[], theirs: [] as number[], again: [] as number[] };
  await comparison.ours();
  await comparison.theirs();
  for (let run = 0; run < runs; run += 1) {
    samples.theirs.push(await comparison.theirs());
    samples.ours.push(await comparison.ours());
    samples.again.push(await comparison.theirs());
  }
  const [ours, theirs, again] = [median(samples.ours), median(samples.theirs), median(samples.again)];
  const ratio = better === 'lower' ? ours / median([theirs, again]) : median([theirs, again]) / ours;
  const band = Math.max(theirs / again, again / theirs);
  const met = goal === undefined ? null : goal.isMet({ ours, theirs: median([theirs, again]), ratio, band });
  return {
    work,
    against,
    ours,
    theirs: median([theirs, again]),
    unit,
    ratio,
    band,
    goal: goal?.text ?? 'reported',
    met,
    runs,
  };
}

/** A ratio that may exceed its goal only by what the other side differs from itself. */
export function atMost(limit: number): NonNullable<Comparison['goal']> {
  return { text: `<= ${limit}`, isMet: ({ ratio, band }) => ratio <= limit * band };
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = ((sorted.length - 1) * percent) / 100;
  const [low, high] = [sorted[Math.floor(position)] ?? Number.NaN, sorted[Math.ceil(position)] ?? Number.NaN];
  return low + (high - low) * (position - Math.floor(position));
}

/** Milliseconds that an act takes. */
export async function milliseconds(act: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await act();
  return performance.now() - began;
}
