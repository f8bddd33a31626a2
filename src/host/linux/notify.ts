import { closeSync } from 'node:fs';
import { InvalidArgument, messageOf } from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { type Repetition, repeat } from '../../lib/repeat.ts';
import { datagramSocket, must, sendDatagram } from './system-calls.ts';

/** Tells the service manager how the daemon is, as sd_notify(3) does. A failure is logged and changes nothing. */
export interface ServiceManager {
  /** Requests are answered: units that are ordered after us may start, and the watchdog is fed from now on. */
  ready(): Promise<void>;
  stopping(): Promise<void>;
  /** Feeds the watchdog no more. */
  close(): Promise<void>;
}

/**
 * The manager that NOTIFY_SOCKET names; none without it. Its watchdog is fed by the event loop, twice in the time
 * that WATCHDOG_USEC allows: a loop that stands still is noticed (sd_watchdog_enabled(3)).
 */
export function serviceManager(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
  log: Pick<Logger, 'warn'>,
): ServiceManager {
  const address = environment['NOTIFY_SOCKET'] ?? '';
  const interval = watchdogInterval(environment, pid);
  let feeding: Repetition | undefined;
  let isClosed = false;
  const say = async (state: string): Promise<void> => {
    if (address === '') return;
    await notify(address, state).catch((error: unknown) => {
      log.warn(`the service manager was not told ${state}: ${messageOf(error)}`);
    });
  };
  return {
    ready: async () => {
      await say('READY=1');
      if (interval === undefined || address === '' || isClosed) return;
      feeding = repeat(
        interval,
        () => say('WATCHDOG=1'),
        () => undefined,
      );
    },
    stopping: () => say('STOPPING=1'),
    close: async () => {
      isClosed = true;
      await feeding?.stop();
    },
  };
}

/** Half the time after which the watchdog bites, in milliseconds; undefined when there is none for this process. */
function watchdogInterval(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): number | undefined {
  const microseconds = Number(environment['WATCHDOG_USEC']);
  const meant = environment['WATCHDOG_PID'] ?? String(pid);
  return microseconds > 0 && meant === String(pid) ? microseconds / 2000 : undefined;
}

/** Sends one message to a unix datagram socket. @throws VarveError */
async function notify(address: string, state: string): Promise<void> {
  const target = socketAddress(address);
  const action = `notify ${address}`;
  const fd = must(datagramSocket(), action);
  try {
    must(await sendDatagram(fd, state, target), action);
  } finally {
    closeSync(fd);
  }
}

/** struct sockaddr_un: `@NAME` is in the abstract namespace, where the length counts and no NUL ends it (unix(7)). */
function socketAddress(address: string): Buffer {
  const [AF_UNIX, pathSize] = [1, 108];
  const abstract = address.startsWith('@');
  const name = Buffer.from(abstract ? `\0${address.slice(1)}` : `${address}\0`);
  if ((!abstract && !address.startsWith('/')) || name.length > pathSize) {
    throw new InvalidArgument(
      `NOTIFY_SOCKET is "${address}"; it must be an absolute path or @NAME, of at most ${pathSize - 1} bytes`,
    );
  }
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, name]);
}
