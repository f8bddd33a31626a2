import type { VolumeView } from '../core/volumes/view.ts';
import { ago, size, table } from './output.ts';

/** The table of `varve volume ls`. */
export function volumesText(volumes: readonly VolumeView[], now: Date): string {
  const rows = volumes.map(volume => [
    volume.name,
    volume.driver,
    volume.pool,
    state(volume),
    volume.health,
    size(volume.usage?.bytes),
    size(volume.limitBytes),
    consumers(volume),
    ago(volume.createdAt, now),
  ]);
  return table(['NAME', 'DRIVER', 'POOL', 'STATE', 'HEALTH', 'USED', 'LIMIT', 'CONSUMERS', 'CREATED'], rows);
}

function state({ phase, progress, protected: kept }: VolumeView): string {
  const done =
    progress !== null && progress.totalBytes > 0 ? progress.doneBytes / progress.totalBytes : undefined;
  const percent =
    phase === 'Creating' && done !== undefined ? ` ${Math.floor(Math.min(1, done) * 100)}%` : '';
  return `${phase}${percent}${kept ? ', protected' : ''}`;
}

/** How many, which containers, and for how many the engine has not confirmed that they go on. */
function consumers({ consumers: all, containers }: VolumeView): string {
  const unconfirmed = all.filter(consumer => !consumer.confirmed).length;
  const details = [...containers, ...(unconfirmed === 0 ? [] : [`${unconfirmed} unconfirmed`])];
  return details.length === 0 ? String(all.length) : `${all.length} (${details.join(', ')})`;
}

/** What `varve volume du` knows of one volume; no figures when it could not be measured. */
export interface MeasuredVolume {
  readonly name: string;
  readonly bytes?: number;
  readonly inodes?: number;
}

/** The table of `varve volume du`, with a sum below more than one volume. */
export function usageText(volumes: readonly MeasuredVolume[]): string {
  const rows = volumes.map(({ name, bytes, inodes }) => [
    name,
    size(bytes),
    inodes === undefined ? '-' : String(inodes),
  ]);
  const sum = (numbers: readonly (number | undefined)[]) =>
    numbers.reduce<number>((total, n) => total + (n ?? 0), 0);
  const total = ['total', size(sum(volumes.map(v => v.bytes))), String(sum(volumes.map(v => v.inodes)))];
  return table(['NAME', 'USED', 'INODES'], volumes.length > 1 ? [...rows, total] : rows);
}
