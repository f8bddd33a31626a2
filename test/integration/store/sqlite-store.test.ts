import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';
import { objectStoreSuite } from '../../suites/object-store.ts';

for (const synchronous of ['FULL', 'OFF'] as const) {
  objectStoreSuite(`SQLite, synchronous ${synchronous}`, async (options = {}) => {
    const directory = mkdtempSync(join(tmpdir(), 'varve-store-'));
    return {
      store: await openSqliteStore(join(directory, 'state.db'), { synchronous, create: true, ...options }),
      remove: () => rmSync(directory, { recursive: true }),
    };
  });
}
