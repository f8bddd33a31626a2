/**
 * What shows a stack of overlay layers: mounts as data. Layer 7 has its files in `ROOT/7/fs`, and while others rest
 * on it the link `ROOT/l/7` leads there (numbers in base 36), for the kernel takes at most a page of options.
 */
import { FailedPrecondition } from '../../errors/errors.ts';
import type { MountSource } from '../mount.ts';
import type { LayerNumber } from '../names.ts';
import type { Stack } from './layer-disk.ts';
import type { LayerKind } from './layer-store.ts';

/**
 * What layers are made for. `images`: an upper directory is the difference to what is beneath, as OCI layers need
 * it. `volumes`: it behaves like any file system, hard links and renamed directories included, and the kernel
 * refuses to mount it twice.
 */
export type OverlayUse = 'images' | 'volumes';

export interface OverlayPlan {
  /** The absolute path of the store. */
  readonly root: string;
  readonly kind: LayerKind;
  readonly use: OverlayUse;
  /** Whether the union keeps its attributes as `user.overlay.*`, for want of the right to `trusted.*`. */
  readonly userxattr: boolean;
  /** The absolute path of what holds `fs` and `work` of the top layer. */
  readonly home: string;
  /** Whether that is another file system than the one beneath. */
  readonly apart: boolean;
}

/** Most directories beneath a mount (kernel, fs/overlayfs: OVL_MAX_STACK). */
const maxLowers = 500;
/** mount(2) takes a page of options, its NUL included. */
const maxOptions = 4095;

/**
 * What shows a stack: a bind of the only directory that there is, otherwise one overlay. A union of unions would
 * end at the kernel's limit of two (FILESYSTEM_MAX_STACK_DEPTH).
 * @throws FailedPrecondition when the stack is too high
 */
export function overlaySource(stack: Stack, plan: OverlayPlan): MountSource {
  const own = `${plan.home}/fs`;
  const [, ...below] = stack;
  if (plan.kind === 'active') {
    if (below.length === 0) return { type: 'bind', source: own, readonly: false };
    return overlayOf(below, plan, [`workdir=${escaped(`${plan.home}/work`)}`, `upperdir=${escaped(own)}`]);
  }
  const shown = plan.kind === 'view' ? below : stack;
  const [first, ...others] = shown;
  if (first === undefined) return { type: 'bind', source: own, readonly: true };
  if (others.length === 0) return { type: 'bind', source: layerPath(plan.root, first), readonly: true };
  return overlayOf(shown, plan, []);
}

/** The options of a read-only overlay that we mount ourselves, which may take more than a page. @param lowers paths */
export function overlayViewOptions(
  lowers: readonly string[],
  plan: Pick<OverlayPlan, 'use' | 'userxattr'>,
): readonly string[] {
  const paths = lowers.map(escaped).join(':');
  return [...settings({ ...plan, apart: false }, false), `lowerdir=${paths}`];
}

function overlayOf(lowers: readonly LayerNumber[], plan: OverlayPlan, upper: readonly string[]): MountSource {
  const paths = lowers.map(number => escaped(lowerPath(plan.root, number))).join(':');
  const options = [...settings(plan, upper.length > 0), ...upper, `lowerdir=${paths}`];
  const height = lowers.length > maxLowers ? `${lowers.length} layers` : undefined;
  const length = mountDataLength(options);
  const tooLong = length > maxOptions ? `${length} bytes of options` : undefined;
  const excess = height ?? tooLong;
  if (excess === undefined) return { type: 'overlay', options };
  throw new FailedPrecondition(
    `the stack under ${plan.root} needs ${excess}, and the kernel takes ${maxLowers} layers in ${maxOptions} bytes; merge some of its layers`,
  );
}

/** See docs/decisions for the reasons. Each is spelled out, since every distribution has defaults of its own. */
function settings(
  { use, userxattr, apart }: Pick<OverlayPlan, 'use' | 'userxattr' | 'apart'>,
  writable: boolean,
): readonly string[] {
  const xattrs = userxattr ? ['userxattr'] : [];
  const xino = apart && writable ? ['xino=auto'] : [];
  if (use === 'images') return [...xattrs, ...xino, 'index=off', 'metacopy=off', 'redirect_dir=nofollow'];
  const followed = writable ? ['index=on', 'redirect_dir=on'] : ['index=off', 'redirect_dir=follow'];
  return [...xattrs, ...xino, ...followed, 'metacopy=off'];
}

/** The files of a layer, when they are not in a file system of their own. */
export function layerPath(root: string, number: LayerNumber): string {
  return `${root}/${number}/fs`;
}

/** The link to {@link layerPath}. */
export function lowerPath(root: string, number: LayerNumber): string {
  return `${root}/l/${number.toString(36)}`;
}

/**
 * How many bytes mount(2) gets from an engine. containerd, whose code dockerd uses as well, makes the paths of
 * `lowerdir` relative to the directory that all have in common, and goes there, when the options come close to a
 * page (containerd, core/mount/mount_linux.go: compactLowerdirOption).
 */
export function mountDataLength(options: readonly string[]): number {
  const page = 4096;
  const reserve = 512;
  const size = options.reduce((sum, option) => sum + Buffer.byteLength(option), 0);
  return Buffer.byteLength((size >= page - reserve ? options.map(compacted) : options).join(','));
}

function compacted(option: string): string {
  const name = 'lowerdir=';
  if (!option.startsWith(name)) return option;
  const paths = option.slice(name.length).split(':');
  const prefix = commonPrefix(paths);
  const directory = prefix.slice(0, prefix.lastIndexOf('/'));
  if (paths.length === 1 || directory === '') return option;
  return `${name}${paths.map(path => path.slice(directory.length + 1)).join(':')}`;
}

function commonPrefix(texts: readonly string[]): string {
  return texts.reduce((prefix, text) => {
    let length = 0;
    while (length < prefix.length && prefix[length] === text[length]) length += 1;
    return prefix.slice(0, length);
  });
}

/** A path as it may stand among the options of an overlay (kernel, Documentation/filesystems/overlayfs.rst). */
export function escaped(path: string): string {
  return path.replace(/[\\:,]/g, '\\$&');
}
