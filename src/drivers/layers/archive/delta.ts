/** The directories of a delta: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories". */
import { FailedPrecondition } from '../../../errors/errors.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { bytesOf, shownPath, type TreeWalker } from '../../../host/linux/tree-walker.ts';
import { getXattr } from '../../../host/linux/xattr-calls.ts';
import type { TreeForm } from './archiver.ts';

export type DeltaForm = Extract<TreeForm, { readonly type: 'delta' }>;

/** One directory of a layer. */
export interface Listing {
  /** What the layer itself holds, sorted by name. */
  readonly entries: ReadonlyMap<string, FileStatus>;
  /** Names that it hides beneath. */
  readonly whiteouts: readonly string[];
  /** Whether it hides everything beneath, so that only its own entries are there. */
  readonly opaque: boolean;
}

/** The directory on which a walker stands. */
export function listDirectory(walker: TreeWalker, form: TreeForm): Listing {
  return form.type === 'delta' ? listDelta(walker, form) : listWhole(walker);
}

function listWhole(walker: TreeWalker): Listing {
  const entries = new Map(walker.names().map(name => [name, walker.status(name)] as const));
  return { entries, whiteouts: [], opaque: true };
}

function listDelta(walker: TreeWalker, form: DeltaForm): Listing {
  const mark = markOf(walker, form);
  const [entries, whiteouts] = [new Map<string, FileStatus>(), [] as string[]];
  for (const name of walker.names()) {
    const status = walker.status(name);
    if (mark === 'y' && isOpaqueMarker(name, status)) continue;
    if (isWhiteout(walker, name, status, form, mark)) whiteouts.push(name);
    else entries.set(name, status);
  }
  return { entries, whiteouts, opaque: mark === 'y' };
}

/** Names that the OCI image spec (layer.md, "Whiteouts") keeps for itself. */
export const markerPrefix = '.wh.';

/** fuse-overlayfs puts these two into each directory that it makes opaque; they say nothing more. */
function isOpaqueMarker(name: string, { type, size }: FileStatus): boolean {
  return (
    (name === '.wh..wh..opq' && type === 'file' && size === 0) ||
    (name === '.wh..opq' && type === 'character')
  );
}

/** `y`: hides everything beneath; `x`: may hold whiteouts that are files with an attribute; otherwise empty. */
function markOf(walker: TreeWalker, form: DeltaForm): string {
  if (typeof getXattr(walker.fd, `${form.prefix}redirect`) !== 'number') {
    throw new FailedPrecondition(
      `the directory ${shownPath(walker.path)} was renamed with redirect_dir=on, so that its layer cannot be read by itself; mount the layer without redirect_dir`,
    );
  }
  const mark = getXattr(walker.fd, `${form.prefix}opaque`);
  return typeof mark === 'number' ? '' : mark.toString('latin1');
}

function isWhiteout(
  walker: TreeWalker,
  name: string,
  { type, device, size }: FileStatus,
  form: DeltaForm,
  mark: string,
): boolean {
  if (type === 'character') return device.major === 0 && device.minor === 0;
  if (mark !== 'x' || type !== 'file' || size !== 0) return false;
  return typeof getXattr([walker.fd, bytesOf(name)], `${form.prefix}whiteout`) !== 'number';
}

/** @throws FailedPrecondition when the data of an open file of a delta is still beneath */
export function refuseMetacopy(fd: number, form: TreeForm, path: string): void {
  if (form.type === 'whole' || typeof getXattr(fd, `${form.prefix}metacopy`) === 'number') return;
  throw new FailedPrecondition(
    `the file ${shownPath(path)} was copied up with metacopy=on, so that its layer does not hold its data; mount the layer without metacopy`,
  );
}
