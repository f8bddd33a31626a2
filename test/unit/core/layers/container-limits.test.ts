import { expect } from 'chai';
import { ContainerLimits, refusedLabel } from '../../../../src/core/layers/container-limits.ts';
import type { LayerAbilities } from '../../../../src/core/layers/layer-disk.ts';
import { Unavailable } from '../../../../src/errors/errors.ts';
import { MemoryLayerDisk } from '../../../support/memory-layer-disk.ts';
import { layerLog, MemoryLayerWorld } from '../../../support/memory-layer-world.ts';

const id = 'a1'.repeat(32);
const key = `moby/7/${id}`;
const minute = 60_000;

describe('limits of containers that their engine keeps to itself', () => {
  let world: MemoryLayerWorld;
  let answers: Map<string, unknown>;
  let asked: string[];
  let silence: Error | undefined;
  let log: readonly string[];
  let limits: ContainerLimits;
  let made: string[];

  async function open(abilities: Partial<LayerAbilities> = {}): Promise<void> {
    world = new MemoryLayerWorld(new MemoryLayerDisk(abilities));
    await world.reopen();
    await world.store.prepare(key);
    made = ['containerd'];
    limits = restarted();
  }

  /** As after a restart of the daemon. */
  function restarted(): ContainerLimits {
    const [logger, lines] = layerLog();
    log = lines;
    return new ContainerLimits({
      storeNames: ['containerd', 'other'],
      stores: { made: async () => made, get: async () => world.store },
      engine: {
        async storageOptions(container) {
          asked.push(container);
          if (silence !== undefined) throw silence;
          return answers.get(container);
        },
      },
      ...{ clock: world.clock, log: logger },
    });
  }

  beforeEach(async () => {
    answers = new Map([[id, { size: '10M' }]]);
    asked = [];
    silence = undefined;
    await open();
  });

  const layer = () => world.store.stat(key);

  it('a container gets the limit that it asks for, and is asked about once', async () => {
    for (let round = 0; round < 3; round += 1) await limits.tick();
    expect(asked).to.deep.equal([id]);
    expect(await layer()).to.deep.include({ limit: { bytes: 10 * 1024 * 1024 }, labels: {} });
    await world.reopen();
    expect((await layer()).limit).to.deep.equal({ bytes: 10 * 1024 * 1024 });
    expect(log).to.deep.equal([]);
  });

  it('one that asks for nothing is left as it is', async () => {
    answers.set(id, {});
    for (let round = 0; round < 2; round += 1) await limits.tick();
    expect(asked).to.deep.equal([id]);
    expect(await layer()).to.deep.include({ limit: null, labels: {} });
  });

  it('nobody is asked about what is no writable layer of a container of Docker', async () => {
    await world.store.remove(key);
    for (const other of [
      id,
      `${key}-init`,
      `k8s.io/7/${id}`,
      `moby/7/${id.slice(1)}`,
      'moby/7/extract-1 sha256:2',
    ])
      await world.store.prepare(other);
    await world.store.prepare('base');
    await world.store.commit(key, 'base');
    await limits.tick();
    expect(asked).to.deep.equal([]);
  });

  it('a dockerd with another namespace of containerd is known by what it puts beneath a container', async () => {
    await world.store.remove(key);
    await world.store.prepare('init');
    await world.store.commit(`own/6/${id}-init`, 'init');
    await world.store.prepare(`own/7/${id}`, { parent: `own/6/${id}-init` });
    await limits.tick();
    expect((await world.store.stat(`own/7/${id}`)).limit).not.to.equal(null);
  });

  it('nobody is asked, and no store is opened, where none was made', async () => {
    made = ['default'];
    await limits.tick();
    expect(asked).to.deep.equal([]);
  });

  for (const [what, options, reason] of [
    ['a size that cannot be read', { size: 'big' }, /^size=big: .*is not a size/],
    ['another option', { inodes: '9' }, /^inodes=9: .*no storage option "inodes"/],
  ] as const) {
    it(`${what} is refused, in the log and at the layer, once`, async () => {
      answers.set(id, options);
      for (let round = 0; round < 2; round += 1) await limits.tick();
      expect((await layer()).labels[refusedLabel]).to.match(reason);
      expect(log).to.have.length(1);
      expect(log[0]).to.match(/^error: the container a1a1a1a1a1a1 does not get the limit /);
      await restarted().tick();
      expect(log, 'after a restart').to.deep.equal([]);
      expect(asked).to.deep.equal([id, id]);
    });
  }

  it('a limit that the driver cannot keep is refused, and the refusal ends when it is not asked for any more', async () => {
    await open({ limits: [] });
    for (let round = 0; round < 2; round += 1) await limits.tick();
    expect(asked).to.deep.equal([id]);
    const { limit, labels } = await layer();
    expect(limit).to.equal(null);
    expect(labels[refusedLabel]).to.equal('size=10M: no limit is kept in memory');
    expect(log).to.have.length(1);
    answers.set(id, {});
    await restarted().tick();
    expect((await layer()).labels).to.deep.equal({});
  });

  it('a limit that the layer has already is not refused, whatever the driver', async () => {
    await world.store.prepare(`moby/8/${'b2'.repeat(32)}`, { limit: { bytes: 1024 } });
    answers.set('b2'.repeat(32), { size: '1k' });
    world.disk.limit = async () => {
      throw new Error('nobody should ask');
    };
    answers.delete(id);
    await limits.tick();
    expect(log).to.deep.equal([]);
  });

  it('a limit that cannot be kept yet is tried again', async () => {
    const { limit } = world.disk;
    world.disk.limit = async () => {
      throw new Unavailable('the kernel still counts');
    };
    for (let round = 0; round < 2; round += 1) await limits.tick();
    expect((await layer()).labels[refusedLabel]).to.match(/still counts/);
    expect(log).to.have.length(1);
    world.disk.limit = limit;
    await limits.tick();
    expect(await layer()).to.deep.include({ limit: { bytes: 10 * 1024 * 1024 }, labels: {} });
  });

  it('an engine that does not answer is asked again in the next round, and one warning tells', async () => {
    await world.store.prepare(`moby/8/${'b2'.repeat(32)}`);
    silence = new Unavailable('the engine is away');
    for (let round = 0; round < 2; round += 1) await limits.tick();
    expect(asked, 'one question in each round').to.have.length(2);
    expect(log).to.deep.equal([
      'warn: limits of containers in the layer store containerd wait: the engine is away',
    ]);
    silence = undefined;
    await limits.tick();
    expect((await layer()).limit).not.to.equal(null);
  });

  it('an engine that hangs at one container does not keep others from their limits', async () => {
    const other = 'b2'.repeat(32);
    await world.store.prepare(`moby/8/${other}`);
    answers.set(other, { size: '1k' });
    const get = answers.get.bind(answers);
    answers.get = container => {
      if (container === id) throw new Unavailable('the engine hangs');
      return get(container);
    };
    for (let round = 0; round < 2; round += 1) await limits.tick();
    expect((await world.store.stat(`moby/8/${other}`)).limit).to.deep.equal({ bytes: 1024 });
    expect(asked).to.deep.equal([id, other, id]);
  });

  it('a container that the engine does not know yet is asked about again; one that is gone is not', async () => {
    answers.delete(id);
    await limits.tick();
    answers.set(id, { size: '1M' });
    await limits.tick();
    expect((await layer()).limit).to.deep.equal({ bytes: 1024 * 1024 });
    answers.delete(id);
    limits = restarted();
    world.clock.advance(2 * minute);
    for (let round = 0; round < 3; round += 1) await limits.tick();
    expect(asked).to.deep.equal([id, id, id]);
    expect(log).to.deep.equal([]);
  });

  it('a layer that goes meanwhile is forgotten', async () => {
    world.disk.limit = async () => undefined;
    const { store } = world;
    answers = new Map();
    answers.get = () => {
      void store.remove(key);
      return { size: '1M' };
    };
    await limits.tick();
    await limits.tick();
    expect(asked).to.deep.equal([id]);
    expect(log).to.deep.equal([]);
  });
});
