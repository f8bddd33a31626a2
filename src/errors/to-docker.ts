import { messageOf } from './errors.ts';

/** An answer to an engine. */
export interface DockerError {
  readonly status: 500;
  readonly body: { readonly Err: string };
}

/**
 * How a plugin reports a failure: a status other than 200 and the text in `Err`. This is the only form that
 * both dockerd and podman understand; podman takes 200 with `Err` for success.
 */
export function toDocker(error: unknown): DockerError {
  return { status: 500, body: { Err: messageOf(error) } };
}
