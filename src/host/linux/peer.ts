import type { Socket } from 'node:net';
import { peerOf } from './system-calls.ts';

/**
 * The process at the other end of a unix socket, as it was when it connected: 0 for one that is not in our pid
 * namespace. Undefined for another kind of socket, and for one that is closed.
 */
export function peerPid(socket: Socket): number | undefined {
  const fd = descriptorOf(socket);
  if (fd === undefined || socket.remoteAddress !== undefined) return undefined;
  const { value, errno } = peerOf(fd);
  return errno === 0 ? value : undefined;
}

/** Node keeps the number in the handle, which is gone when the socket is closed; it has no public name. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
