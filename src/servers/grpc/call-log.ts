import type { Message } from '@bufbuild/protobuf';
import { show } from '../../core/names.ts';
import { type ErrorCode, messageOf, VarveError } from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';

export interface CallLog {
  /** `SERVICE.METHOD`. */
  readonly name: string;
  readonly log: Logger;
  /** Whether to log every call, and failures with their stack. */
  readonly debug: boolean;
}

/**
 * Failures that clients expect: they ask whether something is there, unpack one layer twice at a time, or turn to
 * another differ; and nobody reads an answer that comes too late.
 */
const expected: ReadonlySet<ErrorCode> = new Set(['NotFound', 'AlreadyExists', 'Unimplemented', 'Aborted']);

/** The log of one call, which begins now. */
export function logOf({ name, log, debug }: CallLog, request: Message) {
  const began = performance.now();
  const trace = (outcome: string): void => {
    const ms = (performance.now() - began).toFixed(1);
    log.debug(`${name} ${describe(request)}: ${outcome} (${ms} ms)`);
  };
  return {
    done: (): void => {
      if (debug) trace('done');
    },
    /** What was done though the client had its answer, or had gone: it does not know. */
    doneLate: (): void => {
      log.warn(`${name} ${describe(request)}: done, and its client does not know; it may try again`);
    },
    failed: (error: unknown): void => {
      const isExpected = error instanceof VarveError && expected.has(error.code);
      log[isExpected ? 'debug' : 'warn'](`${name}: ${messageOf(error)}`);
      if (debug) trace((error instanceof Error ? error.stack : undefined) ?? String(error));
    },
  };
}

/** The texts of a request; a map of it may hold keys for decryption. */
function describe(request: Message): string {
  const texts = Object.entries(request).filter(
    ([name, value]) => typeof value === 'string' && value !== '' && !name.startsWith('$'),
  );
  return texts.map(([name, value]) => `${name}=${show(value)}`).join(' ');
}
