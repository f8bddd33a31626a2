/** Whether this run has the repetitions of `scripts/test --long`. */
export const isLong = process.env['VARVE_LONG'] === '1';

/** How often something is tried: as a rule, and among the repetitions. */
export function times(usual: number, long: number): number {
  return isLong ? long : usual;
}
