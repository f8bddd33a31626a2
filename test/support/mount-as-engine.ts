/** `node mount-as-engine.ts TARGET OPTIONS`: mount(2) of an overlay, with paths relative to the working directory. */
import { fileURLToPath } from 'node:url';
import { must } from '../../scripts/lib/process.ts';
import { mountDataLength } from '../../src/core/layers/overlay-mounts.ts';
import type { OverlaySource } from '../../src/core/mount.ts';
import { mountFileSystem } from '../../src/host/linux/file-system.ts';

/**
 * Mounts an overlay as containerd and dockerd do: a process goes to the directory that all lower ones have in common,
 * and names them relative to that.
 * @param options `short`: the options would fit into a page as they are
 */
export async function mountAsEngine(
  source: OverlaySource,
  common: string,
  target: string,
  { short = false } = {},
): Promise<void> {
  const data = source.options.map(option => option.replaceAll(`${common}/`, '')).join(',');
  if (!short && data.length !== mountDataLength(source.options))
    throw new Error(`${data.length} bytes of options`);
  await must(process.execPath, [fileURLToPath(import.meta.url), target, data], { cwd: common });
}

const [script, target, data] = process.argv.slice(1);
if (script === fileURLToPath(import.meta.url) && target !== undefined && data !== undefined) {
  await mountFileSystem('overlay', target, 'overlay', [data]);
}
