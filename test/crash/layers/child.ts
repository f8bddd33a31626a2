/** A process that dies for a test: it opens a layer store, and does what its parent asks for. */
import { flushCompileCache } from 'node:module';
import type { LayerStore } from '../../../src/core/layers/layer-store.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { collect } from '../../support/layer-world.ts';
import type { Reply, Request } from './layer-process.ts';
import { openRealStore, type RealStore, rebuildRealStore, type StorePlace } from './real-store.ts';

let opened: RealStore | undefined;

const commands: Readonly<Record<string, (args: readonly unknown[]) => Promise<unknown>>> = {
  async open([place]) {
    opened = await openRealStore(place as StorePlace);
    return opened.log;
  },
  async close() {
    await opened?.close();
    opened = undefined;
  },
  rebuild: ([place]) => rebuildRealStore(place as StorePlace),
  mount: ([mount]) => new LinuxMounter().mount(mount as Parameters<LinuxMounter['mount']>[0]),
  walk: () => collect(store().walk()),
  original: async ([name]) => (await collect(await store().original(String(name)))).length,
};

function store(): LayerStore {
  if (opened === undefined) throw new Error('the store is not open');
  return opened.store;
}

async function answer({ command, args }: Request): Promise<unknown> {
  const own = commands[command];
  if (own !== undefined) return await own(args);
  const method = store()[command as keyof LayerStore] as (...values: unknown[]) => Promise<unknown>;
  return await method.apply(store(), [...args]);
}

process.on('message', (request: Request) => {
  const { id } = request;
  const reply = (answered: Reply) => process.send?.(answered);
  answer(request).then(
    result => reply({ id, result }),
    (error: Error) => reply({ id, error: { name: error.constructor.name, message: error.message } }),
  );
});
// One that is killed would leave nothing for the next, which then takes twice as long to start.
flushCompileCache();
// A parent that has died takes it along.
process.on('disconnect', () => process.exit());
