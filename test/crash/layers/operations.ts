import { existsSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { mountsBelow } from '../../../scripts/lib/mounts.ts';
import { must } from '../../support/host-scratch.ts';
import { change, directory, file, remove, symbolicLink, type TreeChange } from '../../support/layer-tree.ts';
import type { LayerCrashWorld } from './world.ts';

/** Something that a client asks of a layer store, and that a fault interrupts. */
export interface Operation {
  /** Makes what there is before. */
  prepare?(world: LayerCrashWorld): Promise<unknown>;
  act(world: LayerCrashWorld): Promise<unknown>;
  /** Does it again when it has not happened, or not wholly. */
  repeat?(world: LayerCrashWorld): Promise<unknown>;
  /** Whether the store is closed before, and opening it is what is interrupted. */
  readonly opens?: true;
  /** Whether it may have happened in part, of which the layer tells. */
  readonly leavesHalf?: true;
  /** Looks at what was done. */
  check?(world: LayerCrashWorld): Promise<unknown>;
  /** The steps at which it is interrupted. */
  readonly steps: readonly string[];
}

const mebibyte = 1024 * 1024;
const limit = { bytes: 8 * mebibyte };
const written: readonly TreeChange[] = [
  file('new', 'data'.repeat(5000), 0o640),
  file('d/file', 'changed'),
  remove('deleted'),
  directory('d/e', 0o711),
  symbolicLink('d', 'link'),
];

async function makeActive({ store }: LayerCrashWorld, options: object = {}): Promise<void> {
  await store.prepare('key', { parent: 'base', labels: { of: 'key' }, ...options });
}

async function makeWritten(world: LayerCrashWorld): Promise<void> {
  await makeActive(world);
  await world.write('key', written);
}

async function makeLimited(world: LayerCrashWorld): Promise<void> {
  await makeActive(world, { limit });
  await world.write('key', written);
}

async function makeCommitted(world: LayerCrashWorld, name: string, parent: string): Promise<void> {
  await world.store.prepare('making', { parent });
  await world.write('making', [file('d/file', name), directory(`d/${name}`), file(`of ${name}`, name)]);
  await world.store.commit(name, 'making');
}

/** A layer that was committed and not brought to the disk. */
async function makeUnsynced(world: LayerCrashWorld): Promise<void> {
  await makeWritten(world);
  await world.store.commit('done', 'key', { sync: false });
}

/** Whether nothing is lost when the host boots again, which it would be without having been brought to the disk. */
async function expectSurvivesBoot(world: LayerCrashWorld): Promise<void> {
  await world.restart({ bootId: 'boot-2' });
  const { damage } = await world.store.stat('done');
  if (damage !== null) throw new Error(`it is not known to be on the disk: ${damage}`);
  await world.restart();
}

const prepare: Operation = {
  act: ({ store }) => store.prepare('new', { parent: 'base', labels: { a: 'b' } }),
  steps: ['layer.draft', 'layer.make', 'layer.manifest', 'layer.record', 'layer.place', 'layer.placed'],
};

const prepareLimited: Operation = {
  act: ({ store }) => store.prepare('new', { parent: 'base', limit }),
  steps: [],
};

const view: Operation = {
  act: ({ store }) => store.view('new', { parent: 'base' }),
  steps: ['layer.make', 'layer.record', 'layer.place', 'layer.placed'],
};

const commit: Operation = {
  prepare: makeWritten,
  act: ({ store }) => store.commit('done', 'key', { labels: { of: 'done' } }),
  steps: ['layer.seal', 'layer.manifest', 'layer.sync', 'layer.record', 'layer.placed'],
};

const commitUnsynced: Operation = {
  prepare: makeWritten,
  act: ({ store }) => store.commit('done', 'key', { sync: false }),
  steps: ['layer.seal', 'layer.manifest', 'layer.record', 'layer.placed'],
};

const commitLimited: Operation = {
  prepare: makeLimited,
  act: ({ store }) => store.commit('done', 'key'),
  steps: ['layer.seal', 'layer.manifest', 'layer.sync', 'layer.record', 'layer.placed'],
};

const sync: Operation = {
  prepare: makeUnsynced,
  act: ({ store }) => store.sync(),
  check: expectSurvivesBoot,
  steps: ['layer.sync', 'layer.record'],
};

const freezeSteps = ['layer.draft', 'layer.freeze', 'layer.manifest', 'layer.sync', 'layer.record'];
const freeze: Operation = {
  prepare: makeWritten,
  act: ({ store }) => store.freeze('key', 'frozen'),
  steps: [...freezeSteps, 'layer.place', 'layer.placed', 'layer.drop-original'],
};

const freezeLimited: Operation = { ...freeze, prepare: makeLimited };

const merge: Operation = {
  async prepare(world) {
    await makeCommitted(world, 'middle', 'base');
    await world.store.prepare('key', { parent: 'middle' });
    await world.write('key', [remove('of middle'), file('d/file', 'changed again'), file('of key', 'key')]);
  },
  act: ({ store }) => store.merge('middle'),
  steps: ['layer.draft', 'layer.merge', 'layer.manifest', 'layer.sync', 'layer.record', 'layer.discard'],
};

/** Of two committed layers, of which the upper one has a layer on top. */
const mergeCommitted: Operation = {
  async prepare(world) {
    await makeCommitted(world, 'lower', 'base');
    await makeCommitted(world, 'upper', 'lower');
    await world.store.prepare('key', { parent: 'upper' });
    await world.write('key', [file('of key', 'key')]);
  },
  act: ({ store }) => store.merge('lower'),
  steps: [
    'layer.merge',
    'layer.record',
    'layer.place',
    'layer.placed',
    'layer.discard',
    'layer.forget-trash',
  ],
};

const removal: Operation = {
  prepare: makeWritten,
  act: ({ store }) => store.remove('key'),
  steps: ['layer.record', 'layer.discard', 'layer.forget-trash'],
};

const removeLimited: Operation = {
  prepare: makeLimited,
  act: ({ store }) => store.remove('key'),
  steps: ['layer.discard'],
};

const update: Operation = {
  prepare: makeActive,
  act: ({ store }) => store.update({ name: 'key', labels: { of: 'update' } }),
  steps: ['layer.record'],
};

const cleanup: Operation = {
  async prepare(world) {
    await makeWritten(world);
    await world.store.remove('key');
  },
  act: ({ store }) => store.cleanup(),
  steps: ['layer.delete'],
};

const cleanupLimited: Operation = {
  async prepare(world) {
    await makeLimited(world);
    await world.store.remove('key');
  },
  act: ({ store }) => store.cleanup(),
  steps: ['layer.delete'],
};

async function archiveIn(world: LayerCrashWorld): Promise<string> {
  const tree = join(world.scratch, 'archive');
  const archive = `${tree}.tar`;
  if (existsSync(archive)) return archive;
  mkdirSync(tree);
  change(tree, [directory('d'), file('d/file', 'from the archive'), file('big', 'x'.repeat(300_000))]);
  await must('tar', '--create', `--file=${archive}`, `--directory=${tree}`, '.');
  return archive;
}

const apply: Operation = {
  prepare: makeActive,
  act: async world => world.store.apply('key', { path: await archiveIn(world) }, { keepOriginal: true }),
  async repeat(world) {
    const { damage } = await world.store.stat('key');
    if (damage !== null) {
      await world.store.remove('key');
      await makeActive(world);
    }
    await apply.act(world);
  },
  leavesHalf: true,
  async check({ store }) {
    if ((await store.original('key')) === 0) throw new Error('nothing of the archive is given back');
  },
  steps: ['layer.record', 'layer.apply', 'layer.original', 'layer.digests'],
};

/** Reads, and records digests of what has none yet. */
const verify: Operation = {
  prepare: async world => {
    await makeWritten(world);
    await world.store.commit('done', 'key');
  },
  act: ({ store }) => store.verify('done'),
  async check({ store }) {
    const { problems } = await store.verify('done');
    if (problems.length > 0) throw new Error(JSON.stringify(problems));
  },
  steps: ['layer.digests'],
};

const openAfterDraft: Operation = {
  opens: true,
  prepare: world => world.dieAt('layer.record:before', () => prepare.act(world)),
  act: world => world.restart(),
  steps: ['layer.delete'],
};

const openAfterPrepare: Operation = {
  opens: true,
  prepare: world => world.dieAt('layer.place:before', () => prepare.act(world)),
  act: world => world.restart(),
  steps: ['layer.place', 'layer.placed'],
};

const openAfterRemoval: Operation = {
  opens: true,
  async prepare(world) {
    await makeWritten(world);
    await world.dieAt('layer.discard:before', () => world.store.remove('key'));
  },
  act: world => world.restart(),
  steps: ['layer.discard', 'layer.forget-trash'],
};

const openAfterCommit: Operation = {
  opens: true,
  async prepare(world) {
    await makeLimited(world);
    await world.dieAt('layer.placed:before', () => world.store.commit('done', 'key'));
  },
  act: world => world.restart(),
  steps: ['layer.placed'],
};

const openUnsynced: Operation = {
  opens: true,
  async prepare(world) {
    await makeUnsynced(world);
    await world.replaceProcess();
  },
  act: world => world.restart(),
  check: expectSurvivesBoot,
  steps: ['layer.sync', 'layer.record'],
};

/** The host has booted, so that nothing is mounted. */
const openAfterBoot: Operation = {
  opens: true,
  async prepare(world) {
    await makeLimited(world);
    await world.replaceProcess();
    for (const point of mountsBelow(world.root)) await must('umount', point);
  },
  act: world => world.restart(),
  steps: ['upper-image.mount'],
};

/** The records are lost, and nothing else. */
const rebuild: Operation = {
  opens: true,
  async prepare(world) {
    await makeCommitted(world, 'middle', 'base');
    await world.store.prepare('key', { parent: 'middle' });
    await world.write('key', [file('of key', 'key')]);
    await world.store.close();
    const { directory: of } = world.place;
    for (const name of readdirSync(of).filter(each => each.startsWith('state.db')))
      unlinkSync(join(of, name));
  },
  async act(world) {
    await world.store.rebuild(world.place);
    await world.restart();
  },
  async repeat(world) {
    await world.replaceProcess();
    await rebuild.act(world);
  },
  steps: ['layer.record', 'layer.identity'],
};

/** Of a layer that nothing is beneath. */
const prepareFirst: Operation = { act: ({ store }) => store.prepare('new'), steps: [] };

/** The first limit on a file system of btrfs turns on its quotas. */
const prepareFirstLimited: Operation = {
  prepare: world => must('btrfs', 'quota', 'disable', world.root),
  act: prepareLimited.act,
  steps: ['layer.enable-quotas', 'layer.limit'],
};

const limitInUse: Operation = {
  prepare: makeWritten,
  act: ({ store }) => store.limit('key', limit),
  steps: ['layer.limit', 'layer.record'],
};

/** One of several names beneath is written to. */
const commitHardLinks: Operation = {
  async prepare(world) {
    await makeActive(world);
    await world.write('key', [file('d/name', 'written to')]);
  },
  act: ({ store }) => store.commit('done', 'key'),
  steps: ['overlay.hard-links', 'layer.seal'],
};

/** A union in user space has a process of its own, which goes on. */
const mount: Operation = {
  async prepare(world) {
    await makeCommitted(world, 'middle', 'base');
    await world.store.view('shown', { parent: 'middle' });
  },
  async act(world) {
    const [source] = await world.store.mounts('shown');
    if (source !== undefined) await world.store.mount({ ...source, target: await world.target() });
  },
  async check(world) {
    const target = await world.target();
    if (!existsSync(join(target, 'of middle'))) throw new Error('it is not mounted');
    await world.unmount(target);
  },
  steps: ['fuse.mount'],
};

/** The same, interrupted at other steps. */
function at(operation: Operation, ...steps: readonly string[]): Operation {
  return { ...operation, steps };
}

/** Which operations are interrupted with which driver. The first one has all points that every driver has. */
export const operationsOf: Readonly<Record<string, Readonly<Record<string, Operation>>>> = {
  overlay: {
    prepare: at(prepare, ...prepare.steps, 'overlay.link'),
    view,
    'prepare with a limit': at(prepareLimited, 'upper-image.format', 'upper-image.mount', 'layer.make'),
    commit: at(commit, ...commit.steps, 'overlay.link', 'overlay.drop-work'),
    'commit without sync': commitUnsynced,
    'commit of a limited layer': at(
      commitLimited,
      ...commitLimited.steps,
      ...['overlay.copy-out', 'overlay.drop-image', 'upper-image.detach', 'upper-image.delete'],
      'overlay.drop-work',
    ),
    sync,
    freeze: at(freeze, ...freeze.steps, 'overlay.make-next'),
    'freeze of a limited layer': at(
      freezeLimited,
      ...['layer.freeze', 'overlay.copy-out', 'overlay.make-next', 'upper-image.format', 'upper-image.mount'],
      ...['layer.record', 'layer.place', 'overlay.drop-image', 'upper-image.detach', 'upper-image.delete'],
    ),
    merge: at(merge, ...merge.steps, 'layer.place', 'layer.placed', 'overlay.link', 'layer.forget-trash'),
    'merge of two committed layers': mergeCommitted,
    remove: removal,
    'remove of a limited layer': removeLimited,
    update,
    cleanup,
    'cleanup of a limited layer': at(
      cleanupLimited,
      'layer.delete',
      'upper-image.unmount',
      'upper-image.delete',
    ),
    apply,
    verify,
    'a start after a draft': openAfterDraft,
    'a start after a prepare': at(openAfterPrepare, ...openAfterPrepare.steps, 'overlay.link'),
    'a start after a remove': openAfterRemoval,
    'a start after a commit': at(openAfterCommit, 'layer.placed', 'overlay.drop-image', 'upper-image.delete'),
    'a start with an unsynced layer': openUnsynced,
    'a start after a boot': openAfterBoot,
    'state rebuild': rebuild,
  },
  'overlay for volumes': { 'commit of one name of a file': commitHardLinks },
  btrfs: {
    prepare: at(prepare, 'layer.snapshot', 'layer.record'),
    'prepare of a first layer': at(prepareFirst, 'layer.make-subvolume'),
    'prepare with the first limit': prepareFirstLimited,
    'limit of a layer in use': limitInUse,
    'commit of a limited layer': at(commitLimited, 'layer.record', 'layer.make-readonly', 'layer.end-limit'),
    freeze: at(freeze, 'layer.freeze', 'layer.snapshot', 'layer.manifest', 'layer.record', 'layer.place'),
    merge: at(merge, 'layer.merge', 'layer.delete', 'layer.record', 'layer.drop-original', 'layer.discard'),
    cleanup: at(cleanup, 'layer.delete', 'layer.destroy-subvolume'),
    'state rebuild': at(rebuild, 'layer.record'),
  },
  copy: {
    prepare: at(prepare, 'layer.copy', 'layer.record'),
    freeze: at(freeze, 'layer.copy', 'layer.manifest', 'layer.record', 'layer.place'),
    merge: at(merge, 'layer.merge', 'layer.record', 'layer.drop-original', 'layer.discard'),
  },
  'fuse-overlayfs': {
    commit: at(commit, 'fuse.settle', 'layer.record', 'overlay.drop-work'),
    'commit of a limited layer': at(commitLimited, 'overlay.copy-out', 'layer.record', 'overlay.drop-image'),
    freeze: at(freeze, 'layer.freeze', 'layer.record', 'layer.place'),
    merge: at(merge, 'layer.merge', 'layer.record', 'layer.place', 'layer.discard'),
    mount,
  },
};

/** Steps of the first start with an empty directory. */
export const stepsOfFirstOpen: readonly string[] = ['layer.marker', 'layer.identity'];

/** All steps of layer stores; other suites leave them to this one. */
export const layerSteps: ReadonlySet<string> = new Set([
  ...stepsOfFirstOpen,
  ...Object.values(operationsOf)
    .flatMap(operations => Object.values(operations))
    .flatMap(({ steps }) => steps),
]);
