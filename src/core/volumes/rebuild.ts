import { messageOf } from '../../errors/errors.ts';
import type { Catalog } from './catalog.ts';
import type { Pool } from './pool.ts';
import type { Pools } from './pools.ts';
import { samePlace } from './record.ts';

/** What rebuilding the records did. */
export interface RebuildReport {
  /** Records that the disks had and the database did not. */
  readonly restored: number;
  /** Records that both had. */
  readonly kept: number;
  readonly damaged: readonly { readonly subject: string; readonly message: string }[];
}

/** Restores the records from the manifests beside the data. Records that exist are left as they are. */
export async function rebuildRecords(
  catalog: Catalog,
  pools: Pools,
  onProgress: (message: string) => void,
): Promise<RebuildReport> {
  const report = { restored: 0, kept: 0, damaged: [] as { subject: string; message: string }[] };
  for (const pool of pools.all()) {
    onProgress(`reading pool ${pool.name} (${pool.root})`);
    try {
      await rebuildPool(catalog, pool, report, onProgress);
    } catch (error) {
      report.damaged.push({ subject: pool.name, message: messageOf(error) });
    }
  }
  return report;
}

async function rebuildPool(
  catalog: Catalog,
  pool: Pool,
  report: { restored: number; kept: number; damaged: { subject: string; message: string }[] },
  onProgress: (message: string) => void,
): Promise<void> {
  await pool.probe();
  const trash = await catalog.trash();
  for (const number of await pool.numbers()) {
    const place = { pool: pool.name, number };
    const subject = `${pool.name}/${number}`;
    if (trash.some(other => samePlace(other, place))) continue;
    if (catalog.all().some(({ record }) => samePlace(record, place))) {
      report.kept += 1;
      continue;
    }
    const found = await pool.read(number);
    if ('damage' in found) report.damaged.push({ subject, message: found.damage });
    else if (catalog.find(found.manifest.name) !== undefined) {
      report.damaged.push({ subject, message: `a second volume with the name ${found.manifest.name}` });
    } else {
      await catalog.adopt(pool.name, found.manifest);
      report.restored += 1;
      onProgress(`restored ${found.manifest.name} (${subject})`);
    }
  }
}
