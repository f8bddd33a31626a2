/**
 * What the synchronous calls of libc have in common. They may wait for a disk, so they belong into worker threads.
 *
 * Each returns what the call gives, or the negated errno, as the kernel itself does: {@link check} turns that into
 * a VarveError where the caller has no use for it. Nothing is allocated on the way of a success.
 */
import koffi from 'koffi';
import { InvalidArgument } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';

export type Libc = ReturnType<ReturnType<typeof koffi.load>['func']>;

/** koffi throws at more asynchronous calls in flight than this; its own default is 256. */
export const maxCallsInFlight = 1024;
// Before anything is loaded: koffi refuses it later.
koffi.config({ max_async_calls: maxCallsInFlight });

export const libc = koffi.load(null);

/** Linux refuses longer paths, its NUL included (PATH_MAX, path_resolution(7)). */
const PATH_MAX = 4096;
const ENAMETOOLONG = 36;

/** The errno of a call is read on the very next line: it belongs to the thread, and anything may change it. */
export function rawCall(call: Libc, ...args: readonly unknown[]): number {
  const value: number = call(...args);
  return value === -1 ? -koffi.errno() : value;
}

/**
 * The value of a call that succeeded. @param action what was done to `name`, such as `open`
 * @throws what `fromErrno` gives
 */
export function check(result: number, action: string, name?: Buffer): number {
  if (result >= 0) return result;
  throw fromErrno(-result, name === undefined ? action : `${action} ${shown(name)}`);
}

/** A name for a message; what is not UTF-8 shows as U+FFFD. */
export function shown(name: Buffer): string {
  return JSON.stringify(name.toString());
}

/** Where calls find a path with the NUL at its end: one for each argument, used again by the next call. */
export class PathArgument {
  readonly #bytes = Buffer.alloc(PATH_MAX);

  /** @throws InvalidArgument when the path holds a NUL, at which the kernel would cut it off, or is too long */
  of(path: Buffer): Buffer {
    if (path.length >= PATH_MAX)
      throw fromErrno(ENAMETOOLONG, `use the path ${shown(path.subarray(0, 64))}...`);
    if (path.includes(0))
      throw new InvalidArgument(`the path ${shown(path)} holds a NUL; no file can have that name`);
    path.copy(this.#bytes);
    this.#bytes[path.length] = 0;
    return this.#bytes;
  }
}
