import { closeSync, constants, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { Exhausted, InvalidArgument, Unimplemented } from '../../src/errors/errors.ts';
import { file, randomBytes, remove } from '../support/layer-tree.ts';
import {
  collect,
  commit,
  contents,
  type LayerExceptions,
  type LayerWorld,
  withMount,
  write,
} from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';

const piece = randomBytes(1 << 20, 1);

/** Writes a file of so many bytes, to the disk. @returns how many; @throws ENOSPC or EDQUOT */
export function fill(path: string, bytes: number): number {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_SYNC } = constants;
  // Delayed allocation tells late: each write has to reach the disk.
  const descriptor = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_SYNC);
  try {
    let written = 0;
    while (written < bytes) {
      written += writeSync(descriptor, piece, 0, Math.min(piece.length, bytes - written));
    }
    return written;
  } finally {
    closeSync(descriptor);
  }
}

/** Does what a limit stops. Node has no name for EDQUOT. */
export function expectNoRoom(act: () => unknown): void {
  const [ENOSPC, EDQUOT] = [-28, -122];
  expect(act)
    .to.throw()
    .with.property('errno')
    .that.satisfies((errno: number) => errno === ENOSPC || errno === EDQUOT);
}

/** What a writable layer may take. */
export function layerLimitSuite(open: () => Promise<LayerWorld>, { limits }: LayerExceptions): void {
  let world: LayerWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  it('a limit is a positive number of bytes', async () => {
    for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(await rejection(world.store.prepare('key', { limit: { bytes } }))).to.be.instanceOf(
        InvalidArgument,
      );
    }
    expect(await collect(world.store.walk())).to.deep.equal([]);
  });

  if (!limits.includes('inodes')) {
    it('a limit of inodes, which this driver cannot keep, is refused', async () => {
      const limit = { bytes: 50 << 20, inodes: 1000 };
      expect(await rejection(world.store.prepare('key', { limit }))).to.be.instanceOf(Unimplemented);
      expect(await collect(world.store.walk())).to.deep.equal([]);
    });
  } else {
    it('of 1000 inodes, no more than 1000 files can be made, and most of them can', async () => {
      const limit = { bytes: 50 << 20, inodes: 1000 };
      await withMount(world, await world.store.prepare('key', { limit }), path => {
        let made = 0;
        const makeAll = () => {
          for (; made < 1100; made += 1) writeFileSync(join(path, `${made}`), '');
        };
        expectNoRoom(makeAll);
        expect(made).to.be.within(900, 1000);
      });
    });
  }

  if (!limits.includes('bytes')) return;
  const limit = { bytes: 32 << 20 };

  it('what is beneath does not count, a restart changes nothing, and deleting gives room again', async () => {
    await commit(world, 'base', undefined, [file('/base', randomBytes(40 << 20, 2))]);
    await world.store.prepare('key', { parent: 'base', limit });
    await write(world, 'key', [path => fill(join(path, 'first'), 16 << 20)]);
    const store = await world.reopen();
    expect(await store.stat('key')).to.deep.include({ limit });
    await withMount(world, await store.mounts('key'), path => {
      expectNoRoom(() => fill(join(path, 'second'), 20 << 20));
    });
    await write(world, 'key', [remove('/second'), remove('/first')]);
    await world.store.sync();
    await write(world, 'key', [path => fill(join(path, 'third'), 24 << 20)]);
    const { bytes } = await store.usage('key');
    expect(bytes).to.be.within(24 << 20, 33 << 20);
  });

  it('a commit ends it: nothing of it is left, and layers over it have none', async () => {
    const { store } = world;
    await store.prepare('key', { limit });
    await write(world, 'key', [path => fill(join(path, 'first'), 20 << 20)]);
    const before = await contents(world, 'key');
    await store.commit('name', 'key');
    expect(await store.stat('name')).to.include({ limit: null });
    expect(await contents(world, 'name')).to.deep.equal(before);
    await withMount(world, await store.prepare('child', { parent: 'name' }), path => {
      expect(fill(join(path, 'second'), 40 << 20)).to.equal(40 << 20);
    });
    expect((await store.verify('name')).problems).to.deep.equal([]);
  });

  it('an archive that is larger fails, and the layer can be removed', async () => {
    const { store } = world;
    await commit(world, 'large', undefined, [file('/file', randomBytes(40 << 20, 3))]);
    await store.prepare('key', { limit });
    const apply = store.apply('key', await store.diff(null, 'large'));
    expect(await rejection(apply)).to.be.instanceOf(Exhausted);
    await store.remove('key');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });
}
