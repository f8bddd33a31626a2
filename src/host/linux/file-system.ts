import { libc } from './native.ts';
import { call, cString, must } from './system-calls.ts';

const cMount = libc.func('int mount(void *source, void *target, void *type, ulong flags, void *data)');

/**
 * Mounts the file system of a block device (mount(2)).
 * @param type such as `ext4`; @param options of the file system, as mount(8) takes them
 */
export async function mountFileSystem(
  device: string,
  target: string,
  type: string,
  options: readonly string[],
): Promise<void> {
  const words = [cString(device), cString(target), cString(type), 0, cString(options.join(','))];
  must(await call(cMount, ...words), `mount ${device} on ${target}`);
}
