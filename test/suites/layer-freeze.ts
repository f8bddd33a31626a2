import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { AlreadyExists, FailedPrecondition, NotFound, Unimplemented } from '../../src/errors/errors.ts';
import { change, directory, file, randomBytes, readTree, remove } from '../support/layer-tree.ts';
import {
  commit,
  contents,
  flat,
  type LayerExceptions,
  type LayerWorld,
  prepare,
  withMount,
  write,
} from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';
import { expectNoRoom, fill } from './layer-limits.ts';

/** `freeze`: what a snapshot of a volume is made of. */
export function layerFreezeSuite(open: () => Promise<LayerWorld>, exceptions: LayerExceptions): void {
  let world: LayerWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  const first = [file('/a', '1'), file('/gone', 'x'), directory('/dir'), file('/dir/b', '1')];
  const later = [file('/a', '2'), remove('/gone'), remove('/dir'), directory('/dir'), file('/dir/c', '2')];

  it('holds a point in time, and the key goes on over it', async () => {
    const { store } = world;
    await commit(world, 'base', undefined, [file('/base', 'x')]);
    await prepare(world, 'volume', { parent: 'base', labels: { of: 'me' } }, first);
    const before = await store.stat('volume');
    await store.freeze('volume', 'monday');
    expect(await store.stat('monday')).to.include({ kind: 'committed', parent: 'base', limit: null });
    const after = await store.stat('volume');
    expect(after).to.deep.include({ kind: 'active', parent: 'monday', labels: { of: 'me' }, usage: null });
    expect(after.createdAt).to.equal(before.createdAt);
    const frozen = flat(world, [file('/base', 'x')], first);
    expect(await contents(world, 'volume')).to.deep.equal(frozen);
    await write(world, 'volume', later);
    expect(await contents(world, 'monday')).to.deep.equal(frozen);
    expect(await contents(world, 'volume')).to.deep.equal(flat(world, [file('/base', 'x')], first, later));
    const changed = (await store.changes('monday', 'volume')).map(({ path }) => path);
    expect(changed).to.include.members(['/a', '/gone', '/dir', '/dir/b', '/dir/c']);
    expect(changed).not.to.include('/base');
  });

  it('outlives a restart, is committed for ever, and can be cloned', async () => {
    await prepare(world, 'volume', {}, first);
    await world.store.freeze('volume', 'monday');
    await write(world, 'volume', later);
    const store = await world.reopen();
    expect((await store.verify('monday')).problems).to.deep.equal([]);
    await prepare(world, 'clone', { parent: 'monday' }, [file('/clone', 'x')]);
    expect(await contents(world, 'clone')).to.deep.equal(flat(world, first, [file('/clone', 'x')]));
    expect(await contents(world, 'volume')).to.deep.equal(flat(world, first, later));
    await store.commit('final', 'volume');
    expect(await contents(world, 'final')).to.deep.equal(flat(world, first, later));
  });

  it('is refused for what is no active layer, and under a name that is taken', async () => {
    const { store } = world;
    await commit(world, 'base', undefined, first);
    await store.view('view', { parent: 'base' });
    await store.prepare('volume', { parent: 'base' });
    expect(await rejection(store.freeze('base', 'name'))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(store.freeze('view', 'name'))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(store.freeze('none', 'name'))).to.be.instanceOf(NotFound);
    for (const name of ['base', 'view', 'volume']) {
      expect(await rejection(store.freeze('volume', name)), name).to.be.instanceOf(AlreadyExists);
    }
    expect(await store.stat('volume')).to.include({ parent: 'base' });
    expect(await contents(world, 'volume')).to.deep.equal(flat(world, first));
  });

  if (exceptions.freezesInUse) {
    it('goes while it is mounted: the writer goes on, and the frozen layer does not change', async () => {
      const { store } = world;
      await withMount(world, await store.prepare('volume'), async path => {
        change(path, [file('/file', 'before')]);
        await store.freeze('volume', 'monday');
        appendFileSync(join(path, 'file'), ' and after');
        expect(readTree(path)).to.deep.equal(flat(world, [file('/file', 'before and after')]));
      });
      expect(await contents(world, 'monday')).to.deep.equal(flat(world, [file('/file', 'before')]));
      expect(await contents(world, 'volume')).to.deep.equal(flat(world, [file('/file', 'before and after')]));
    });
  } else {
    it('is refused while it is mounted, since the kernel cannot do it here; nothing changes', async () => {
      const { store } = world;
      await withMount(world, await store.prepare('volume'), async path => {
        change(path, [file('/file', 'before')]);
        const refused = await rejection(store.freeze('volume', 'monday'));
        expect(refused).to.be.instanceOf(FailedPrecondition);
        expect(refused.message).to.contain('mount');
        appendFileSync(join(path, 'file'), ' and after');
      });
      expect(await rejection(store.stat('monday'))).to.be.instanceOf(NotFound);
      expect(await contents(world, 'volume')).to.deep.equal(flat(world, [file('/file', 'before and after')]));
      await store.freeze('volume', 'monday');
    });
  }

  it('twenty times one after the other: each holds its own moment', async () => {
    const { store } = world;
    await store.prepare('volume');
    for (let day = 1; day <= 20; day += 1) {
      await write(world, 'volume', [
        ...[file('/day', `${day}`), file(`/file-${day}`, 'x'), file('/big', randomBytes(5_000, day))],
        ...(day > 3 ? [remove(`/file-${day - 3}`)] : []),
      ]);
      await store.freeze('volume', `day ${day}`);
    }
    for (const day of [1, 2, 7, 19, 20]) {
      const files = [day - 2, day - 1, day].filter(each => each > 0).map(each => file(`/file-${each}`, 'x'));
      const expected = flat(world, files, [file('/day', `${day}`), file('/big', randomBytes(5_000, day))]);
      expect(await contents(world, `day ${day}`), `${day}`).to.deep.equal(expected);
    }
    expect(await contents(world, 'volume')).to.deep.equal(await contents(world, 'day 20'));
  });

  it('what is frozen is measured for good, and the layer over it begins at nothing', async () => {
    const { store } = world;
    await prepare(world, 'volume', {}, [file('/file', randomBytes(3 << 20, 1))]);
    await store.freeze('volume', 'monday');
    const frozen = await store.usage('monday');
    expect(frozen.bytes).to.be.within(3 << 20, 4 << 20);
    expect((await store.usage('volume')).bytes).to.be.lessThan(1 << 17);
    await write(world, 'volume', [file('/other', randomBytes(1 << 20, 2))]);
    expect(await store.usage('monday')).to.deep.equal(frozen);
    expect((await store.usage('volume')).bytes).to.be.within(1 << 20, 2 << 20);
  });

  const limit = { bytes: 20 << 20 };
  if (exceptions.limits.includes('bytes')) {
    it('keeps the limit: after a freeze as much can be written as before, and no more', async () => {
      const { store } = world;
      await store.prepare('volume', { limit });
      await write(world, 'volume', [path => fill(join(path, 'first'), 12 << 20)]);
      await store.freeze('volume', 'monday');
      expect(await store.stat('volume')).to.deep.include({ limit });
      await withMount(world, await store.mounts('volume'), path => {
        expect(fill(join(path, 'second'), 12 << 20)).to.equal(12 << 20);
        expectNoRoom(() => fill(join(path, 'third'), 12 << 20));
        expect(readFileSync(join(path, 'first'))).to.have.length(12 << 20);
      });
      const names = (await contents(world, 'monday')).map(line => line.split(' ')[0]);
      expect(names).to.deep.equal(['/', '/first']);
    });
  } else {
    it('has no limit to keep: this driver refuses one', async () => {
      expect(await rejection(world.store.prepare('volume', { limit }))).to.be.instanceOf(Unimplemented);
    });
  }
}
