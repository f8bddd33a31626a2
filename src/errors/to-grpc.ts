import { type ErrorCode, messageOf, VarveError } from './errors.ts';

/** What a gRPC server answers for a failure. */
export interface GrpcError {
  /** As in the gRPC documentation, "Status codes and their use in gRPC". */
  readonly code: number;
  readonly details: string;
}

const codes: Readonly<Record<ErrorCode, number>> = {
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  Exhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
};

export function toGrpc(error: unknown): GrpcError {
  const code = codes[error instanceof VarveError ? error.code : 'Internal'];
  // Half of a surrogate pair cannot be sent.
  return { code, details: messageOf(error).toWellFormed() };
}
