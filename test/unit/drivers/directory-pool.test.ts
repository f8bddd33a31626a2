import { parsePoolName } from '../../../src/core/names.ts';
import { openDirectoryPool } from '../../../src/drivers/pools/directory/open.ts';
import { MemoryStore } from '../../../src/store/memory/memory-store.ts';
import { type PoolWorld, poolSuite } from '../../suites/pool.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';

const root = '/pools/default';

poolSuite('directory, on a disk in memory', async (): Promise<PoolWorld> => {
  const disk = new MemoryDisk();
  const store = new MemoryStore();
  const reopen = () => {
    const name = parsePoolName('default');
    return openDirectoryPool({
      disk,
      store,
      name,
      path: root,
      owner: 'owner',
      newUuid: () => 'uuid-1',
      rebuild: false,
    });
  };
  const at = (path: string) => (path === '.' ? root : `${root}/${path}`);
  return {
    pool: await reopen(),
    reopen,
    write: async (path, text) => disk.write(at(path), text),
    read: async path => disk.read(at(path)),
    attributes: async path => (await disk.open(at(path))).attributes('.'),
    list: async path => (await disk.open(at(path))).list('.'),
    source: async () => {
      disk.write('/srv/seed/file', 'data');
      await (await disk.open('/srv')).setAttributes('seed', { mode: 0o710 });
      return '/srv/seed';
    },
    takeAway: async () => disk.takeAway(root),
    bringBack: async () => disk.bringBack(root),
    close: async () => {},
  };
});
