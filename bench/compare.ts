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
  const samples = { ours: [] as number[], theirs: [] as number[], again: [] as number[] };
  await comparison.ours();
  await comparison.theirs();
  for (let run = 0; run < comparison.runs; run += 1) {
    samples.theirs.push(await comparison.theirs());
    samples.ours.push(await comparison.ours());
    samples.again.push(await comparison.theirs());
  }
  return rowOf(comparison, samples);
}

export interface Samples {
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  /** Theirs once more, in the same rounds. */
  readonly again: readonly number[];
}

/** The row of samples that were taken in turn. */
export function rowOf(
  { work, against, unit, runs, better, goal }: Omit<Comparison, 'ours' | 'theirs'>,
  samples: Samples,
): Row {
  const [ours, first, again] = [median(samples.ours), median(samples.theirs), median(samples.again)];
  const theirs = median([first, again]);
  const ratio = better === 'lower' ? ours / theirs : theirs / ours;
  const band = Math.max(first / again, again / first);
  const met = goal === undefined ? null : goal.isMet({ ours, theirs, ratio, band });
  return { work, against, ours, theirs, unit, ratio, band, goal: goal?.text ?? 'reported', met, runs };
}

/** A row with nothing to compare with. @param limit the most that meets the goal; without one it is reported */
export function alone(
  work: string,
  ours: number,
  unit: string,
  limit: number | undefined,
  runs: number,
): Row {
  const nothing = { theirs: null, ratio: null, band: null };
  const met = limit === undefined ? null : ours <= limit;
  const goal = limit === undefined ? 'reported' : `<= ${limit}`;
  return { work, against: '-', ours, unit, ...nothing, goal, met, runs };
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
