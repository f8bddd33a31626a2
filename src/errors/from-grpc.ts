import { type ErrorCode, errorClasses, type VarveError } from './errors.ts';

/** By status code; any other one is a defect of somebody's. */
const codes: Readonly<Record<number, ErrorCode>> = {
  1: 'Aborted',
  3: 'InvalidArgument',
  4: 'DeadlineExceeded',
  5: 'NotFound',
  6: 'AlreadyExists',
  8: 'Exhausted',
  9: 'FailedPrecondition',
  10: 'Aborted',
  11: 'InvalidArgument',
  12: 'Unimplemented',
  14: 'Unavailable',
};

/** The failure of a call to somebody else's gRPC server, as one of ours: `code` is its status. */
export function fromGrpc(
  code: number,
  { message, cause }: { readonly message: string; readonly cause: unknown },
): VarveError {
  return new errorClasses[codes[code] ?? 'Internal'](message, { cause });
}
