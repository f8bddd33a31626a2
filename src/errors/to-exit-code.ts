import { type ErrorCode, VarveError } from './errors.ts';

/** The exit codes of the `varve` command, with what each means. */
export const exitCodes = {
  ok: { code: 0, meaning: 'done' },
  failure: { code: 1, meaning: 'findings that need a person, or a request that this host cannot honour' },
  usage: { code: 2, meaning: 'wrong usage, option or configuration' },
  notFound: { code: 3, meaning: 'no such volume, layer, pool or file' },
  conflict: {
    code: 4,
    meaning:
      'the state forbids it: the name is taken, or the volume or layer is in use, protected or not ready',
  },
  unavailable: {
    code: 5,
    meaning: 'the daemon, a pool or space is not there now; the same command may work later',
  },
  internal: { code: 70, meaning: 'a defect of varve or damage below it' },
} as const;

export type ExitCodeName = keyof typeof exitCodes;

const byErrorCode: Readonly<Record<ErrorCode, ExitCodeName>> = {
  InvalidArgument: 'usage',
  NotFound: 'notFound',
  AlreadyExists: 'conflict',
  FailedPrecondition: 'conflict',
  Aborted: 'conflict',
  Exhausted: 'unavailable',
  Unavailable: 'unavailable',
  DeadlineExceeded: 'unavailable',
  Unimplemented: 'failure',
  Internal: 'internal',
};

/** The exit code for anything that was thrown. */
export function toExitCode(error: unknown): number {
  return exitCodes[error instanceof VarveError ? byErrorCode[error.code] : 'internal'].code;
}
