import { closeSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import koffi from 'koffi';
// It configures koffi, which is possible only before the first library is loaded.
import '../../src/host/linux/system-calls.ts';

const libc = koffi.load('libc.so.6');
const openSocket = libc.func('int socket(int domain, int type, int protocol)');
const bind = libc.func('int bind(int fd, const uint8_t *address, unsigned int length)');
const listen = libc.func('int listen(int fd, int backlog)');

const AF_UNIX = 1;
const SOCK_STREAM = 1;

/**
 * Binds a unix socket and lets connections queue up on it without accepting any, as systemd does for the
 * service that it will start (sd_listen_fds(3)).
 */
export function holdSocket(path: string): { readonly fd: number; close(): void } {
  mkdirSync(dirname(path), { recursive: true });
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2);
  const fd = openSocket(AF_UNIX, SOCK_STREAM, 0) as number;
  if (fd < 0 || bind(fd, address, address.length) !== 0 || listen(fd, 16) !== 0) {
    throw new Error(`cannot listen on ${path}`);
  }
  return { fd, close: () => closeSync(fd) };
}
