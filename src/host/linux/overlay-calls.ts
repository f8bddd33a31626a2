/**
 * Overlay mounts, by fsopen(2) and its relatives, which take each lower directory by itself (`lowerdir+`, since
 * Linux 6.8), or by mount(2), which takes at most a page of options. What they do is in the kernel's
 * Documentation/filesystems/mount_api.rst.
 */
import { close as closeCallback, read as readCallback } from 'node:fs';
import { promisify } from 'node:util';
import { FailedPrecondition } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';
import { mountFileSystem } from './file-system.ts';
import { escapedPath, type OverlayParts, parseOverlay } from './overlay-options.ts';
import { type Answer, call, callNow, cString, libc, must } from './system-calls.ts';

const cFsopen = libc.func('syscall', 'long', ['long', 'void *', 'uint']);
const cFsconfig = libc.func('syscall', 'long', ['long', 'int', 'uint', 'void *', 'void *', 'int']);
const cFsmount = libc.func('syscall', 'long', ['long', 'int', 'uint', 'uint']);
const cMoveMount = libc.func('syscall', 'long', ['long', 'int', 'void *', 'int', 'void *', 'uint']);

const closeFile = promisify(closeCallback);
const readFile = promisify(readCallback);

const [EPERM, EINVAL, ENOSYS] = [1, 22, 38];
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
/** Longest value of fsconfig(2), its NUL included. */
const maxValue = 256;
/** mount(2) takes a page of options, its NUL included. */
const maxOptions = 4095;

/**
 * Makes an overlay that is mounted nowhere yet. @returns a descriptor that stands for its root, and keeps it
 * alive; undefined when this kernel cannot do it this way
 */
export async function makeOverlay(options: readonly string[]): Promise<number | undefined> {
  const parts = parseOverlay(options);
  const values = [...parts.lowers, ...[parts.upper, parts.work].map(path => escapedPath(path ?? ''))];
  if (values.some(value => Buffer.byteLength(value) >= maxValue)) return undefined;
  const context = fsopen();
  if (context.errno === ENOSYS || context.errno === EPERM) return undefined;
  must(context, 'open a file system context for an overlay');
  try {
    return await configure(context.value, parts);
  } finally {
    await closeFile(context.value);
  }
}

async function configure(context: number, parts: OverlayParts): Promise<number | undefined> {
  const { lowers, upper, work, settings } = parts;
  for (const [index, lower] of lowers.entries()) {
    const { errno } = await set(context, 'lowerdir+', lower);
    // Kernels before 6.8 know no such parameter, and say so at the first.
    if (errno === EINVAL && index === 0) return undefined;
    if (errno !== 0) throw fromErrno(errno, `use ${lower} beneath an overlay${await complaint(context)}`);
  }
  const named = settings.map(setting => setting.split('=', 2) as [string, string?]);
  if (upper !== undefined) named.push(['upperdir', escapedPath(upper)]);
  if (work !== undefined) named.push(['workdir', escapedPath(work)]);
  for (const [name, value] of [['source', 'overlay'] as const, ...named]) {
    const { errno } = await set(context, name, value);
    if (errno !== 0) throw fromErrno(errno, `set ${name} of an overlay${await complaint(context)}`);
  }
  const made = await call(cFsconfig, 431, context, FSCONFIG_CMD_CREATE, null, null, 0);
  if (made.errno !== 0) {
    throw fromErrno(made.errno, `make an overlay over ${top(parts)}${await complaint(context)}`);
  }
  const [FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY] = [1, 1];
  const attributes = upper === undefined ? MOUNT_ATTR_RDONLY : 0;
  return must(
    await call(cFsmount, 432, context, FSMOUNT_CLOEXEC, attributes),
    `make a mount of the overlay over ${top(parts)}`,
  );
}

function top({ upper, lowers }: OverlayParts): string {
  return upper ?? lowers[0] ?? 'nothing';
}

function fsopen(): Answer {
  const FSOPEN_CLOEXEC = 1;
  return callNow(cFsopen, 430, cString('overlay'), FSOPEN_CLOEXEC);
}

function set(context: number, name: string, value: string | undefined): Promise<Answer> {
  if (value === undefined) return call(cFsconfig, 431, context, FSCONFIG_SET_FLAG, cString(name), null, 0);
  return call(cFsconfig, 431, context, FSCONFIG_SET_STRING, cString(name), cString(value), 0);
}

/** What the kernel itself says of the last failure, such as ` (overlay: Unknown parameter 'a')`. */
async function complaint(context: number): Promise<string> {
  const message = Buffer.alloc(512);
  const { bytesRead } = await readFile(context, message, 0, message.length, null).catch(() => ({
    bytesRead: 0,
  }));
  return bytesRead === 0 ? '' : ` (${message.toString('utf8', 2, bytesRead).trim()})`;
}

/** Attaches what {@link makeOverlay} made. */
export async function attach(mount: number, target: string): Promise<void> {
  const [AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH] = [-100, 4];
  must(
    await call(cMoveMount, 429, mount, cString(''), AT_FDCWD, cString(target), MOVE_MOUNT_F_EMPTY_PATH),
    `mount an overlay on ${target}`,
  );
}

/** Mounts an overlay with mount(2). @throws FailedPrecondition when the options take more than a page */
export async function mountOverlayAt(options: readonly string[], target: string): Promise<void> {
  const words = options.map(quoted);
  const data = words.join(',');
  if (Buffer.byteLength(data) > maxOptions) {
    throw new FailedPrecondition(
      `cannot mount an overlay on ${target}: ${Buffer.byteLength(data)} bytes of options are more than this kernel takes; use Linux 6.8 or newer, or merge some layers`,
    );
  }
  await mountFileSystem('overlay', target, 'overlay', words);
}

/** The kernel takes the quotes off an SELinux context, which may hold commas, in mount(2) alone. */
function quoted(option: string): string {
  return option.startsWith('context=') ? option.replace(/=(.*)$/s, '="$1"') : option;
}
