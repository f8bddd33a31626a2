import { MemoryStore } from '../../../src/store/memory/memory-store.ts';
import { objectStoreSuite } from '../../suites/object-store.ts';

objectStoreSuite('memory', async ({ historyLimit } = {}) => ({
  store: new MemoryStore(historyLimit),
  remove() {},
}));
