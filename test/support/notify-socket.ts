import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { until } from '../../scripts/lib/wait.ts';

/** A service manager's end of NOTIFY_SOCKET. */
export interface NotifySocket {
  /** The messages so far. */
  messages(): readonly string[];
  close(): Promise<void>;
}

/** Receives what sd_notify(3) sends to `address`, a path or `@NAME`. */
export async function receiveNotifications(address: string): Promise<NotifySocket> {
  const abstract = address.startsWith('@');
  const end = abstract ? `ABSTRACT-RECV:${address.slice(1)}` : `UNIX-RECV:${address},unlink-close=1`;
  const socat = spawn('socat', ['-u', end, 'STDOUT'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  socat.stdout.on('data', (part: Buffer) => {
    text += part.toString();
  });
  const close = async () => {
    socat.kill('SIGTERM');
    if (socat.exitCode === null && socat.signalCode === null) await once(socat, 'exit');
  };
  try {
    await until(`socat to receive on ${address}`, 10_000, () => {
      if (socat.exitCode !== null) throw new Error(`socat ended with exit code ${socat.exitCode}`);
      return abstract ? readFileSync('/proc/net/unix', 'utf8').includes(address) : existsSync(address);
    });
  } catch (error) {
    await close();
    throw error;
  }
  // Datagrams come without anything between them.
  return { messages: () => text.match(/[A-Z]+=1/g) ?? [], close };
}
