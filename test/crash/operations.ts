import { existsSync, readdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Result } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { StateFinding } from '../../src/core/volumes/view.ts';
import { admin } from './admin.ts';
import { expectRemoved, expectSuccess, letGo, type TestVolume } from './test-volume.ts';
import type { World } from './world.ts';

/** Something that a client asks for, and that a fault interrupts. */
export interface Operation {
  /** Makes what there is before. */
  prepare?(volume: TestVolume, world: World): Promise<void>;
  /** Asks for it; rejects when the connection breaks, or resolves to an answer of any kind. */
  act(volume: TestVolume, world: World): Promise<unknown>;
  /** Asks for the same again, now that nothing interrupts it, and looks at the outcome. */
  repeat(volume: TestVolume, world: World): Promise<void>;
  /** False when nothing but a repetition finishes it. */
  readonly heals?: false;
  /** Takes away what stands in the way of removing the volume. */
  finish?(volume: TestVolume, world: World): Promise<void>;
}

const withMode = { mode: '0750' };

const create: Operation = {
  act: volume => volume.create(withMode),
  async repeat(volume) {
    expectSuccess(await volume.create(withMode));
    await volume.becomes('ready', ({ phase }) => phase === 'Ready');
    expect(statSync(join(await volume.place(), 'data')).mode & 0o7777).to.equal(0o750);
    await volume.expectSealedMountPoint();
  },
};

const createFrom: Operation = {
  act: (volume, { source }) => volume.create({ 'from-path': source }),
  async repeat(volume, { source }) {
    expectSuccess(await volume.create({ 'from-path': source }));
    await volume.becomes('ready', ({ phase }) => phase === 'Ready');
    volume.isCopyOf(source);
    await volume.expectData();
  },
};

const mount: Operation = {
  prepare: volume => volume.makeWithData(),
  act: volume => volume.mount(),
  async repeat(volume) {
    const answer = await volume.mount();
    expectSuccess(answer);
    await volume.expectData((answer.body as { Mountpoint: string }).Mountpoint);
    const { consumers } = await volume.view();
    expect(consumers.map(({ mountId }) => mountId)).to.deep.equal([volume.mountId]);
  },
  finish: letGo,
};

const unmount: Operation = {
  async prepare(volume) {
    await volume.makeWithData();
    expectSuccess(await volume.mount());
  },
  act: volume => volume.unmount(),
  repeat: letGo,
  finish: letGo,
};

const remove: Operation = {
  prepare: volume => volume.makeWithData(),
  act: volume => volume.remove(),
  async repeat(volume) {
    expectRemoved(await volume.remove());
  },
};

/** The first one of a pool, which has no trash yet. */
const removeFirst: Operation = {
  ...remove,
  async prepare(volume) {
    await volume.makeWithData();
    const trash = join(volume.daemon.root, 'pools/default/trash');
    if (!existsSync(trash)) return;
    await until('the trash to be empty', 10_000, () => readdirSync(trash).length === 0);
    rmdirSync(trash);
  },
};

/** Of a volume that an engine has forgotten to unmount. */
const removeMounted: Operation = {
  ...remove,
  async prepare(volume) {
    await volume.makeWithData();
    expectSuccess(await volume.mount());
  },
};

const protect: Operation = {
  prepare: volume => volume.makeWithData(),
  act: volume => admin(volume.daemon, 'POST', `/v1/volumes/${volume.name}/protect`),
  async repeat(volume) {
    await admin(volume.daemon, 'POST', `/v1/volumes/${volume.name}/protect`);
    expect((await volume.remove()).status, 'removal of a protected volume').to.equal(500);
    await volume.expectData();
  },
  finish: volume => admin(volume.daemon, 'POST', `/v1/volumes/${volume.name}/unprotect`),
};

/** A person asks for a repair: without one, damage stays. */
const repair: Operation = {
  heals: false,
  async prepare(volume) {
    await volume.makeWithData();
    writeFileSync(join(await volume.place(), 'volume.json'), 'damaged');
  },
  act: volume => admin(volume.daemon, 'POST', '/v1/state/check?repair=true'),
  async repeat(volume) {
    const findings = await admin<StateFinding[]>(volume.daemon, 'POST', '/v1/state/check?repair=true');
    expect(findings.filter(({ repaired }) => !repaired)).to.deep.equal([]);
    await volume.expectData();
  },
};

/** The engine makes a volume with a label, which the daemon learns in the background. */
const learnLabel: Operation = {
  act: (volume, world) => createLabelled(volume, world),
  async repeat(volume, world) {
    const { exitCode, stderr } = await createLabelled(volume, world);
    expect(exitCode, stderr).to.equal(0);
    await volume.becomes('labelled', ({ labels }) => labels['color'] === 'blue');
  },
  async finish({ name }, { engine }) {
    const { exitCode, stderr } = await engine.docker('volume', 'rm', '--force', name);
    expect(exitCode, stderr).to.equal(0);
  },
};

/** The daemon starts again with a volume in use. */
const restart: Operation = {
  async prepare(volume) {
    await volume.makeWithData();
    expectSuccess(await volume.mount());
    await volume.daemon.kill9();
  },
  act: ({ daemon }) => daemon.start(),
  repeat: mount.repeat,
  finish: letGo,
};

/** The daemon starts and finds a volume half made. */
const retryDraft: Operation = {
  async prepare(volume) {
    volume.daemon.faults({ 'pool.create:before': 'kill' });
    await volume.create(withMode).catch(() => undefined);
    await volume.daemon.ended();
    volume.daemon.faults({});
  },
  act: ({ daemon }) => daemon.start(),
  repeat: create.repeat,
};

/** Which operations pass a step, or a gate, of the daemon. */
export const operationsOf: Readonly<Record<string, Readonly<Record<string, Operation>>>> = {
  'catalog.add': { create },
  'catalog.consumers': { mount, unmount },
  'catalog.delete': { remove },
  'catalog.forget-consumers': { remove },
  'catalog.forget-trash': { remove },
  'catalog.labels': { learnLabel },
  'catalog.save': { create, createFrom, protect },
  'daemon.load': { restart },
  'mountpoint.create': { create },
  'mountpoint.protect': { create },
  'mountpoint.remove': { remove },
  'mountpoint.unprotect': { remove },
  'pool.copy': { createFrom },
  'pool.create': { create, createFrom },
  'pool.draft': { create },
  'pool.draft-data': { create },
  'pool.draft-manifest': { create },
  'pool.drop-draft': { retryDraft },
  'pool.empty-trash': { remove },
  'pool.manifest': { protect, repair },
  'pool.remove': { remove },
  'pool.set-attributes': { create, createFrom },
  'pool.trash': { removeFirst },
  'publish.mount': { mount },
  'store.commit': { create, protect, remove },
  'unpublish.unmount': { unmount, removeMounted },
};

/** Steps of the first start on an empty root. */
export const stepsOfFirstStart: readonly string[] = [
  'boot-store.discard',
  'boot-store.mark',
  'pool.marker',
  'pool.record',
  'store.migrate',
];

/** Steps of `varve state rebuild` after the database was damaged. */
export const stepsOfRebuild: readonly string[] = [
  'store.set-aside',
  'store.migrate',
  'pool.record',
  'catalog.add',
];

function createLabelled({ name, daemon }: TestVolume, { engine }: World): Promise<Result> {
  return engine.docker('volume', 'create', '--driver', daemon.driver, '--label', 'color=blue', name);
}
