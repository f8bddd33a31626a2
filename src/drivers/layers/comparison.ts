import type { Stack } from '../../core/layers/layer-disk.ts';
import { settled } from '../../lib/settle.ts';
import type { Comparison, View } from './archive/archiver.ts';
import type { LayerDriver } from './driver.ts';

/**
 * What a difference is taken of: a layer against those right beneath it is what a delta holds by itself; everything
 * else takes two whole trees. @returns it, and what has to be closed afterwards
 */
export async function openComparison(
  driver: LayerDriver,
  before: Stack | null,
  after: Stack,
): Promise<{ readonly comparison: Comparison; readonly open: readonly View[] }> {
  const [, ...below] = after;
  if (String(before ?? []) === String(below)) {
    const tree = await driver.open(after);
    if (tree.form.type === 'delta') return { comparison: { type: 'delta', tree }, open: [tree] };
    await tree.close();
  }
  if (before === null) {
    const view = await driver.view(after);
    return { comparison: { type: 'trees', before: null, after: view }, open: [view] };
  }
  const open = await openAll(
    () => driver.view(before),
    () => driver.view(after),
  );
  return { comparison: { type: 'trees', before: open[0], after: open[1] }, open };
}

type Openers = readonly (() => Promise<View>)[];
type Opened<T extends Openers> = { readonly [K in keyof T]: View };

/** Opens all, one after the other, or none: when one cannot be opened, those before it are closed again. */
export async function openAll<T extends Openers>(...openers: T): Promise<Opened<T>> {
  const open: View[] = [];
  try {
    for (const opener of openers) open.push(await opener());
    return open as unknown as Opened<T>;
  } catch (error) {
    await closeAll(open).catch(() => {});
    throw error;
  }
}

/** Closes them after `act`, however it ends. */
export async function closing<T>(open: readonly View[], act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } finally {
    await closeAll(open);
  }
}

/** Closes each, also when another one cannot be closed. */
export async function closeAll(open: readonly View[]): Promise<void> {
  await settled(open.map(view => view.close()));
}
