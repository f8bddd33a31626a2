import { readFileSync } from 'node:fs';

/**
 * How many connections a unix socket has (proc(5), `/proc/net/unix`): accepted ones are in state 03, those that wait
 * for it in 02. The table shows the name that a socket was bound to; ours is moved into place from one that differs
 * in the end.
 */
export function connections(socket: string): number {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
  const ours = lines.filter(line => line.includes(` ${socket.slice(0, -1)}`));
  return ours.filter(line => / 0[23] +\d+ /.test(line)).length;
}
