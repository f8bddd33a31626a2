import { messageOf } from '../errors/errors.ts';
import { exitCodes, toExitCode } from '../errors/to-exit-code.ts';
import { printable } from './output.ts';

/** Prints a failure on the standard error, and makes its exit code that of the command unless one failed before. */
export function report(error: unknown): void {
  const debug = process.env['VARVE_LOG_LEVEL'] === 'debug' && error instanceof Error;
  process.stderr.write(`varve: ${printable(debug ? (error.stack ?? error.message) : messageOf(error))}\n`);
  process.exitCode ||= toExitCode(error);
}

/** The command has done its work, and what it found needs a person. */
export function reportFindings(): void {
  process.exitCode ||= exitCodes.failure.code;
}

/**
 * Acts on names one after the other. A failure is reported and does not keep the others from their turn.
 * @returns what the successful ones returned
 */
export async function forEachName<T>(
  names: readonly string[],
  act: (name: string, at: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  for (const [at, name] of names.entries()) {
    try {
      results.push(await act(name, at));
    } catch (error) {
      report(error);
    }
  }
  return results;
}
