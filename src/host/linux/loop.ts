/** Loop devices: files as block devices (loop(4)). */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { Exhausted, NotFound, Unavailable } from '../../errors/errors.ts';
import { fromErrno, fromNodeError } from '../../errors/from-errno.ts';
import { libc } from './native.ts';
import { call, must } from './system-calls.ts';

const cIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);

/** A block device that shows a file. */
export interface LoopDevice {
  /** Such as `/dev/loop3`. */
  readonly path: string;
  /** Lets go of it: it is free again as soon as nobody has it mounted or open. */
  close(): Promise<void>;
}

/**
 * Gives the one device that shows a file, made now or before, in blocks of 4 KiB. It frees itself, also after
 * kill -9 (LO_FLAGS_AUTOCLEAR): mount it before it is closed. Two must not attach a file at one time: a file system
 * that is mounted from two devices destroys itself.
 * @throws NotFound without the file or without loop devices; Exhausted when others take every free device
 */
export async function attachLoop(file: string): Promise<LoopDevice> {
  const attached = await findLoop(file);
  if (attached !== undefined) return attached;
  const backing = await openPath(file);
  try {
    return await configureFree(backing.fd, file);
  } finally {
    await backing.close();
  }
}

/** The device that shows a file, opened so that it stays; undefined when there is none. @throws NotFound */
export async function findLoop(file: string): Promise<LoopDevice | undefined> {
  const { dev, ino } = await stat(file, { bigint: true }).catch(error => {
    throw fromNodeError(error, `look at ${file}`);
  });
  for (const path of await boundDevices()) {
    const device = await openIfThere(path);
    if (device === undefined) continue;
    // Asked of the open device, which nobody can take for another file any more.
    const shown = await shownFile(device.fd);
    if (shown?.dev === dev && shown.ino === ino) return { path, close: () => device.close() };
    await device.close();
  }
  return undefined;
}

const attempts = 100;

/** Other programs look for a free device as well: between asking and taking it may be gone. */
async function configureFree(backing: number, file: string): Promise<LoopDevice> {
  const LOOP_CTL_GET_FREE = 0x4c82;
  const LOOP_CONFIGURE = 0x4c0a;
  const control = await openPath('/dev/loop-control');
  try {
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      const number = must(await call(cIoctl, control.fd, LOOP_CTL_GET_FREE, null), 'find a free loop device');
      const path = `/dev/loop${number}`;
      const device = await openPath(path);
      const { errno } = await call(cIoctl, device.fd, LOOP_CONFIGURE, configuration(backing, file));
      if (errno === 0) return { path, close: () => device.close() };
      await device.close();
      if (errno !== EBUSY) throw fromErrno(errno, `attach ${file} to ${path}`);
      await pause(attempt);
    }
  } finally {
    await control.close();
  }
  throw new Exhausted(
    `cannot attach ${file}: other programs took every free loop device ${attempts} times; stop what makes so many`,
  );
}

/**
 * struct loop_config (linux/loop.h): the file's descriptor, the block size, then struct loop_info64. Blocks of
 * 4 KiB suit every disk for direct I/O, which keeps a page from being in memory twice; where the file's own file
 * system cannot do it, the kernel goes on without.
 */
function configuration(backing: number, file: string): Buffer {
  const [LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO] = [4, 16];
  const config = Buffer.alloc(304);
  config.writeUInt32LE(backing, 0);
  config.writeUInt32LE(4096, 4);
  config.writeUInt32LE(LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, 60);
  config.write(file, 64, 63);
  return config;
}

/** The devices that show something, as sysfs has them. */
async function boundDevices(): Promise<readonly string[]> {
  const names = (await readdir('/sys/block')).filter(name => /^loop\d+$/.test(name));
  const bound = await Promise.all(names.map(name => stat(`/sys/block/${name}/loop`).catch(() => undefined)));
  return names.filter((_, index) => bound[index] !== undefined).map(name => `/dev/${name}`);
}

async function shownFile(
  device: number,
): Promise<{ readonly dev: bigint; readonly ino: bigint } | undefined> {
  const LOOP_GET_STATUS64 = 0x4c05;
  const info = Buffer.alloc(232);
  const answer = await call(cIoctl, device, LOOP_GET_STATUS64, info);
  if (answer.errno !== 0) return undefined;
  return { dev: info.readBigUInt64LE(0), ino: info.readBigUInt64LE(8) };
}

/** A device that was freed meanwhile may be on its way out. */
async function openIfThere(path: string): Promise<FileHandle | undefined> {
  return await openPath(path).catch(error => {
    if (error instanceof NotFound || error instanceof Unavailable) return undefined;
    throw error;
  });
}

async function openPath(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDWR);
  } catch (error) {
    throw fromNodeError(error, `open ${path}`);
  }
}

const EBUSY = 16;
