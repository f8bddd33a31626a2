import { FailedPrecondition } from '../../errors/errors.ts';
import { settled } from '../../lib/settle.ts';
import { type LayerKey, show } from '../names.ts';
import type { LayerCatalog } from './catalog.ts';
import { requireSound } from './contents.ts';
import type { Limit } from './layer-store.ts';
import { type LayerRecord, manifestOf } from './record.ts';
import { type LayerSteps, unwritten } from './steps.ts';

/** Commits an active layer under a claimed name, and goes on over it: see {@link LayerStore.freeze}. */
export async function freezeLayer(steps: LayerSteps, record: LayerRecord, name: LayerKey): Promise<void> {
  const { catalog, disk } = steps;
  const next = catalog.nextNumber();
  const [, ...below] = catalog.stackOf(record);
  const { frozen, writable } = await steps.drafting(next, record, async () => {
    const isFrozenNext = (await disk.freeze([record.number, ...below], next, record.limit)) === 'frozen';
    const [frozenNumber, number] = isFrozenNext ? [next, record.number] : [record.number, next];
    await steps.sync();
    const made = {
      frozen: { ...steps.committed(name, record, {}), number: frozenNumber },
      writable: { ...steps.touched(record), ...unwritten, parent: name, number },
    };
    // At one time: each waits for the disk twice.
    await settled([made.frozen, made.writable].map(changed => disk.writeManifest(manifestOf(changed))));
    return made;
  });
  await steps.record({ put: [frozen, writable] }, [
    { record: frozen, stack: [frozen.number, ...below] },
    { record: writable, stack: [writable.number, frozen.number, ...below] },
  ]);
  await dropOriginal(steps, writable);
}

/** What stays is of no harm: its layer was not made of one archive, and the next one that is applied replaces it. */
async function dropOriginal({ disk }: LayerSteps, { number }: LayerRecord): Promise<void> {
  await disk.dropOriginal(number).catch(() => undefined);
}

/** Limits an active layer, whose lock is held. */
export async function limitLayer(steps: LayerSteps, record: LayerRecord, limit: Limit): Promise<void> {
  const { catalog, disk } = steps;
  if (record.limit?.bytes === limit.bytes && record.limit.inodes === limit.inodes) return;
  // Before the record, which must not show a limit that nobody keeps.
  await disk.limit(catalog.stackOf(record), limit);
  const limited = { ...steps.touched(record), limit };
  await catalog.change({ put: [limited] });
  await disk.writeManifest(manifestOf(limited));
}

/** Folds a committed layer into its only child, whose lock is held: see {@link LayerStore.merge}. */
export async function mergeLayer(steps: LayerSteps, name: LayerKey, child: LayerKey): Promise<void> {
  const { catalog, disk } = steps;
  const removed = requireSound(catalog, name);
  if (onlyChildOf(catalog, name) !== child) throw severalChildren(name);
  const record = requireSound(catalog, child);
  if (record.kind === 'view') {
    throw new FailedPrecondition(
      `cannot merge ${show(name)}: ${show(child)} is a view of it; remove that first`,
    );
  }
  const next = catalog.nextNumber();
  const merged = await steps.drafting(next, record, async () => {
    const isMade = await disk.merge(catalog.stackOf(record), next);
    await steps.sync();
    const made: LayerRecord = {
      ...steps.touched(record),
      ...{ parent: removed.parent, number: isMade ? next : record.number },
      ...{ diffId: null, usage: null, unsyncedBoot: null },
    };
    await disk.writeManifest(manifestOf(made));
    return made;
  });
  const trash = merged.number === next ? [removed.number, record.number] : [removed.number];
  const [, , ...below] = catalog.stackOf(record);
  await steps.record({ delete: [removed], put: [merged], trash }, [
    { record: merged, stack: [merged.number, ...below] },
  ]);
  await steps.discard(trash);
  if (merged.number === record.number) await dropOriginal(steps, merged);
}

/** The layer that rests on a committed one. @throws NotFound; FailedPrecondition unless there is exactly one */
export function onlyChildOf(catalog: LayerCatalog, name: LayerKey): LayerKey {
  const [child, ...others] = catalog.childrenOf(name);
  if (child !== undefined && others.length === 0) return child;
  catalog.get(name);
  if (child !== undefined) throw severalChildren(name);
  throw new FailedPrecondition(`cannot merge ${show(name)}: nothing rests on it; remove it instead`);
}

function severalChildren(name: string): FailedPrecondition {
  return new FailedPrecondition(
    `cannot merge ${show(name)}: several layers rest on it; remove all but one of them first`,
  );
}
