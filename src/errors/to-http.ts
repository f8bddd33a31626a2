import { type ErrorCode, messageOf, VarveError } from './errors.ts';

/** What the admin socket answers for a failure. */
export interface HttpError {
  readonly status: number;
  readonly body: { readonly code: ErrorCode; readonly message: string };
}

const statuses: Readonly<Record<ErrorCode, number>> = {
  InvalidArgument: 400,
  NotFound: 404,
  AlreadyExists: 409,
  FailedPrecondition: 409,
  Aborted: 409,
  Exhausted: 507,
  Unavailable: 503,
  DeadlineExceeded: 504,
  Unimplemented: 501,
  Internal: 500,
};

export function toHttp(error: unknown): HttpError {
  const code = error instanceof VarveError ? error.code : 'Internal';
  return { status: statuses[code], body: { code, message: messageOf(error) } };
}
