import { check, libc, rawCall } from './native.ts';
import { O_CLOEXEC } from './safe-path.ts';

const cPipe2 = libc.func('int pipe2(void *descriptors, int flags)');
const cFcntl = libc.func('fcntl', 'int', ['int', 'int', 'int']);

/** What one pipe may hold at most without privileges (pipe(7), /proc/sys/fs/pipe-max-size); pages come as needed. */
const capacity = 1 << 20;

/** Two descriptors that block, until one end is made otherwise; who gets one closes it. */
export interface Pipe {
  readonly reader: number;
  readonly writer: number;
}

/** pipe2(2), as large as it may be: each switch between the threads at its ends then moves more. */
export function openPipe(): Pipe {
  const descriptors = Buffer.alloc(8);
  check(rawCall(cPipe2, descriptors, O_CLOEXEC), 'make a pipe');
  const [reader, writer] = [descriptors.readInt32LE(0), descriptors.readInt32LE(4)];
  const F_SETPIPE_SZ = 1031;
  // Refused when this user's pipes hold too much already: then it stays at 64 KiB, which only costs time.
  rawCall(cFcntl, writer, F_SETPIPE_SZ, capacity);
  return { reader, writer };
}
