/**
 * The one vocabulary of failures. Every face maps these classes to its own wire once
 * (`to-docker.ts`, `to-exit-code.ts`); nobody matches on message text.
 *
 * A message names the thing, the value and the way out. The classes are those that gRPC and CSI know
 * (gRPC status codes, CSI spec v1 "Error Scheme"), so that no later face has to invent one.
 */
export type ErrorCode =
  | 'InvalidArgument'
  | 'NotFound'
  | 'AlreadyExists'
  | 'FailedPrecondition'
  | 'Aborted'
  | 'Exhausted'
  | 'Unavailable'
  | 'DeadlineExceeded'
  | 'Unimplemented'
  | 'Internal';

/** The base of every failure that varve means to report. */
export abstract class VarveError extends Error {
  abstract readonly code: ErrorCode;
}

/** The request is wrong whatever the state: it must be changed before it is sent again. */
export class InvalidArgument extends VarveError {
  readonly code = 'InvalidArgument';
}

/** The named thing does not exist. */
export class NotFound extends VarveError {
  readonly code = 'NotFound';
}

/** The name is taken by something that differs from what was asked for. */
export class AlreadyExists extends VarveError {
  readonly code = 'AlreadyExists';
}

/** The request is right but the state forbids it (in use, protected, not ready): change the state first. */
export class FailedPrecondition extends VarveError {
  readonly code = 'FailedPrecondition';
}

/** Another operation won: read again and repeat. */
export class Aborted extends VarveError {
  readonly code = 'Aborted';
}

/** Space, inodes or another resource has run out. */
export class Exhausted extends VarveError {
  readonly code = 'Exhausted';
}

/** What is needed to answer is not there now (a disk, a pool, an engine); the same call may work later. */
export class Unavailable extends VarveError {
  readonly code = 'Unavailable';
}

/** The time given to the operation ran out. */
export class DeadlineExceeded extends VarveError {
  readonly code = 'DeadlineExceeded';
}

/** This host, pool or driver cannot do what was asked for: varve refuses instead of ignoring it. */
export class Unimplemented extends VarveError {
  readonly code = 'Unimplemented';
}

/** A broken invariant: a defect of varve or damage below it. */
export class Internal extends VarveError {
  readonly code = 'Internal';
}

/** Each class by its code, for a failure that comes from another thread or program. */
export const errorClasses = {
  Aborted,
  AlreadyExists,
  DeadlineExceeded,
  Exhausted,
  FailedPrecondition,
  Internal,
  InvalidArgument,
  NotFound,
  Unavailable,
  Unimplemented,
} satisfies Record<ErrorCode, new (message: string, options?: ErrorOptions) => VarveError>;

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
