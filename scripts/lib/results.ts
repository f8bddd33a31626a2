/** One test as the reporter wrote it down. */
export interface TestResult {
  /** With the titles of the suites around it. */
  readonly title: string;
  readonly file: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Of a failure the error, of a skip its reason or nothing. */
  readonly message: string;
  readonly ms: number;
}

export interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function summarize(results: readonly TestResult[]): Summary {
  const count = (outcome: TestResult['outcome']) =>
    results.filter(result => result.outcome === outcome).length;
  return { passed: count('passed'), failed: count('failed'), skipped: count('skipped') };
}

/** Lanes that may be missing, by the start of the reason: Debian's unstable suite changes under us. */
const allowedReasons = ['engine of sid:'];

/** What is wrong with the skips of a run. In CI as root this host can run everything. */
export function badSkips(results: readonly TestResult[], ci: boolean): readonly string[] {
  return results
    .filter(result => result.outcome === 'skipped')
    .filter(
      ({ message }) => message === '' || (ci && !allowedReasons.some(start => message.startsWith(start))),
    )
    .map(
      ({ title, message }) =>
        `${title}: ${message === '' ? 'no reason given; use skip(this, reason)' : message}`,
    );
}

export function slowest(results: readonly TestResult[], count: number): readonly TestResult[] {
  return results.toSorted((a, b) => b.ms - a.ms).slice(0, count);
}
