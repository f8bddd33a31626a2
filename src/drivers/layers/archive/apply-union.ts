/** What the form of a layer says of the directories beneath: kernel, overlayfs.rst, "whiteouts and opaque directories". */
import { FailedPrecondition } from '../../../errors/errors.ts';
import { directoryFlags, openat } from '../../../host/linux/file-calls.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { getXattr, setXattr } from '../../../host/linux/xattr-calls.ts';
import { join, shownText } from './apply-names.ts';
import type { Directory } from './apply-open.ts';
import type { TreeForm } from './archiver.ts';

const yes = Buffer.from('y');

/** Whether something in the layer stands for a deleted file. */
export function isWhiteout(form: TreeForm, { type, device }: FileStatus): boolean {
  return form.type === 'delta' && type === 'character' && device.major === 0 && device.minor === 0;
}

/**
 * Opens the same directory beneath, when it shows through. @param own in the layer
 * @returns a descriptor, or -1 @throws FailedPrecondition when the directory was renamed
 */
export function openBeneath(form: TreeForm, parent: Directory, name: Buffer, own: number): number {
  if (parent.below < 0 || form.type === 'whole') return -1;
  const { prefix } = form;
  if (typeof getXattr(own, `${prefix}redirect`) !== 'number')
    throw renamed(join(parent.path, name.toString('latin1')));
  const mark = getXattr(own, `${prefix}opaque`);
  if (typeof mark !== 'number' && mark.toString('latin1') === 'y') return -1;
  const below = openat(parent.below, name, directoryFlags);
  return below < 0 ? -1 : below;
}

/** Lets nothing beneath show through a directory. */
export function makeOpaque(form: TreeForm, { own, path }: Directory): void {
  if (form.type === 'whole') return;
  check(setXattr(own, `${form.prefix}opaque`, yes), `make the directory ${shownText(path)} opaque`);
}

function renamed(path: string): FailedPrecondition {
  return new FailedPrecondition(
    `cannot unpack into this layer: its directory ${shownText(path)} was renamed with redirect_dir=on; unpack into a new layer`,
  );
}
