import {
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
  type VarveError,
} from './errors.ts';

/** By status code; any other one is a defect of somebody's. */
const classes: Readonly<Record<number, new (message: string, options?: ErrorOptions) => VarveError>> = {
  1: Aborted,
  3: InvalidArgument,
  4: DeadlineExceeded,
  5: NotFound,
  6: AlreadyExists,
  8: Exhausted,
  9: FailedPrecondition,
  10: Aborted,
  11: InvalidArgument,
  12: Unimplemented,
  14: Unavailable,
};

/** The failure of a call to somebody else's gRPC server, as one of ours: `code` is its status. */
export function fromGrpc(
  code: number,
  { message, cause }: { readonly message: string; readonly cause: unknown },
): VarveError {
  const ErrorOf = classes[code] ?? Internal;
  return new ErrorOf(message, { cause });
}
