/**
 * A process to kill: `writer.ts PATH FULL|OFF COUNT` makes COUNT transactions and says of each, once it is
 * answered, `acknowledged REVISION` or `failed CODE`.
 */
import { writeSync } from 'node:fs';
import type { Change } from '../../../src/core/ports.ts';
import { VarveError } from '../../../src/errors/errors.ts';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';

const [path = '', synchronous, count] = process.argv.slice(2);
const store = await openSqliteStore(path, {
  synchronous: synchronous === 'OFF' ? 'OFF' : 'FULL',
  create: true,
});

const start = await store.revision();
for (let n = start + 1; n <= start + Number(count); n += 1) {
  // Each transaction is larger than a page, and replaces half of what the one before it wrote.
  const changes: Change[] = ['a', 'b', `c/${n}`].map(key => ({
    type: 'put',
    key,
    value: [n, 'x'.repeat(2_000)],
  }));
  const answer = await store.transaction([], changes).then(
    revision => `acknowledged ${revision}`,
    (error: unknown) => `failed ${error instanceof VarveError ? error.code : String(error)}`,
  );
  writeSync(1, `${answer}\n`);
}
await store.close();
