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

/** Such as `12 passed, 0 failed, 1 skipped`. */
export function summaryLine(results: readonly TestResult[]): string {
  const count = (outcome: TestResult['outcome']) =>
    results.filter(result => result.outcome === outcome).length;
  return `${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`;
}

/** The same results with the engine in their titles. */
export function onEngine(engine: string, results: readonly TestResult[]): readonly TestResult[] {
  return results.map(result => ({ ...result, title: `[${engine}] ${result.title}` }));
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
