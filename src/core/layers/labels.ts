import { InvalidArgument } from '../../errors/errors.ts';
import { show } from '../names.ts';
import type { Labels } from './layer-store.ts';

/**
 * The labels of a layer after an update with a field mask (containerd, snapshots `Update`): without a mask, and with
 * `labels`, all are replaced; `labels.NAME` sets one, or deletes it when the change does not have it.
 * @throws InvalidArgument for a field that cannot be changed
 */
export function labelsAfter(old: Labels, change: Labels, mask: readonly string[] = []): Labels {
  // A map, since a label may be named like what every object has.
  const changed = new Map(Object.entries(change));
  let after = new Map(Object.entries(old));
  for (const field of mask.length === 0 ? ['labels'] : mask) {
    const name = field.startsWith('labels.') ? field.slice('labels.'.length) : undefined;
    if (field === 'labels') after = new Map(changed);
    else if (name === undefined) {
      throw new InvalidArgument(`the field ${show(field)} of a layer cannot be changed; change labels only`);
    } else {
      const value = changed.get(name);
      if (value === undefined) after.delete(name);
      else after.set(name, value);
    }
  }
  return Object.fromEntries(after);
}

/** @throws InvalidArgument */
export function parseLabels(raw: unknown): Labels {
  const maxPairBytes = 4096; // containerd, pkg/labels
  for (const [name, value] of Object.entries(raw ?? {})) {
    if (name === '' || typeof value !== 'string') {
      throw new InvalidArgument(`the label ${show(name)} is not a name with a text; write it as NAME=VALUE`);
    }
    if (Buffer.byteLength(name) + Buffer.byteLength(value) > maxPairBytes) {
      throw new InvalidArgument(`the label ${show(name)} is longer than ${maxPairBytes} bytes; shorten it`);
    }
  }
  return (raw ?? {}) as Labels;
}
