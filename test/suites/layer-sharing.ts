import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { FailedPrecondition, NotFound } from '../../src/errors/errors.ts';
import { archiveOf, difference, digestOf, register } from '../support/layer-archive.ts';
import { directory, file, randomBytes, remove } from '../support/layer-tree.ts';
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

const mebibyte = 1 << 20;

/** The promises of docs/rules.md that a layer store keeps. */
export function layerSharingSuite(open: () => Promise<LayerWorld>, exceptions: LayerExceptions): void {
  const { driver, fileSystem, copiesOnWrite, deepest, highest } = exceptions;
  let world: LayerWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  it("S1 an image is a stack of read-only layers, and a container's own layer goes with it", async () => {
    const { store } = world;
    const image = [
      [directory('/bin'), file('/bin/sh', 'old')],
      [file('/bin/sh', 'new'), file('/etc', 'x')],
    ] as const;
    await commit(world, 'lower', undefined, image[0]);
    await commit(world, 'image', 'lower', image[1]);
    for (const name of ['lower', 'image']) {
      expect(await rejection(store.mounts(name))).to.be.instanceOf(FailedPrecondition);
    }
    await prepare(world, 'container', { parent: 'image' }, [remove('/bin'), file('/etc', 'mine')]);
    await prepare(world, 'other', { parent: 'image' }, [file('/other', 'x')]);
    expect(await contents(world, 'other')).to.deep.equal(flat(world, ...image, [file('/other', 'x')]));
    await store.remove('container');
    expect(await rejection(store.mounts('container'))).to.be.instanceOf(NotFound);
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
    expect(await contents(world, 'image')).to.deep.equal(flat(world, ...image));
    expect((await store.verify('image')).problems).to.deep.equal([]);
  });

  const times = copiesOnWrite === 'everything' ? 'once for each, this file system shares nothing' : 'once';
  it(`S2 a layer is stored ${times}: ten images and ten containers on one of 8 MiB`, async () => {
    const size = 8 * mebibyte;
    const before = await world.usedBytes();
    await commit(world, 'base', undefined, [file('/big', randomBytes(size, 1))]);
    for (let index = 0; index < 10; index += 1) {
      await commit(world, `image ${index}`, 'base', [file('/own', `${index}`)]);
      await world.store.prepare(`container ${index}`, { parent: `image ${index}` });
    }
    const used = (await world.usedBytes()) - before;
    if (copiesOnWrite === 'everything') expect(used).to.be.greaterThan(20 * size);
    else expect(used).to.be.within(size, size + 4 * mebibyte);
    // To whom the bytes count is the same everywhere: once, to the layer that brought them.
    const usages = await Promise.all(['base', 'image 3', 'container 3'].map(key => world.store.usage(key)));
    expect(usages[0]?.bytes).to.be.within(size, size + mebibyte);
    for (const { bytes } of usages.slice(1)) expect(bytes).to.be.lessThan(mebibyte / 4);
  });

  const cost = { file: 'the whole file', block: 'a part of the file', everything: 'the file, being a copy,' }[
    copiesOnWrite
  ];
  it(`S3 a write goes to the container's own layer, the topmost layer wins, and one byte costs ${cost} of 8 MiB`, async () => {
    const { store } = world;
    const size = 8 * mebibyte;
    const [big, text] = [randomBytes(size, 1), [file('/text', 'lower'), file('/low', 'lower')]];
    await commit(world, 'lower', undefined, [file('/big', big), ...text]);
    await commit(world, 'upper', 'lower', [file('/text', 'upper')]);
    const before = await world.usedBytes();
    await store.prepare('container', { parent: 'upper' });
    await withMount(world, await store.mounts('container'), path => {
      expect(readFileSync(join(path, 'text'), 'utf8')).to.equal('upper');
      expect(readFileSync(join(path, 'low'), 'utf8')).to.equal('lower');
      const descriptor = openSync(join(path, 'big'), 'r+');
      writeSync(descriptor, 'x', 5_000_000);
      closeSync(descriptor);
      expect(
        readFileSync(join(path, 'big')).subarray(0, 5_000_000).equals(big.subarray(0, 5_000_000)),
      ).to.equal(true);
    });
    const used = (await world.usedBytes()) - before;
    if (copiesOnWrite === 'block') expect(used).to.be.lessThan(2 * mebibyte);
    else expect(used).to.be.within(size, size + 2 * mebibyte);
    expect(await contents(world, 'upper')).to.deep.equal(
      flat(world, [file('/big', big), ...text, file('/text', 'upper')]),
    );
  });

  it('S3 a container that wrote nothing has nothing of its own', async () => {
    const { store } = world;
    await commit(world, 'image', undefined, [file('/big', randomBytes(8 * mebibyte, 1)), directory('/dir')]);
    const before = await world.usedBytes();
    await withMount(world, await store.prepare('container', { parent: 'image' }), path =>
      readFileSync(join(path, 'big')),
    );
    expect(await store.changes('image', 'container')).to.deep.equal([]);
    const { bytes, inodes } = await store.usage('container');
    expect(bytes).to.be.at.most(16_384);
    expect(inodes).to.be.at.most(1);
    const used = (await world.usedBytes()) - before;
    if (copiesOnWrite === 'everything') expect(used).to.be.greaterThan(8 * mebibyte);
    else expect(used).to.be.lessThan(mebibyte);
  });

  it(`S4 the driver ${driver} works on ${fileSystem}: an archive goes in, a container writes, its image comes out`, async () => {
    const archive = await archiveOf(world, [directory('/bin'), file('/bin/sh', 'shell', 0o755)]);
    await register(world, 'base', undefined, archive);
    await prepare(world, 'container', { parent: 'base' });
    await write(world, 'container', [file('/made', 'here'), remove('/bin/sh')]);
    await world.store.commit('image', 'container');
    const bytes = await difference(world, 'base', 'image');
    expect((await world.store.stat('base')).diffId).to.equal(digestOf(archive));
    expect(bytes.includes('bin/.wh.sh')).to.equal(true);
    expect(await contents(world, 'image')).to.deep.equal(
      flat(world, [directory('/bin'), file('/made', 'here')]),
    );
    const names = ['image', 'base'];
    for (const name of names) await world.store.remove(name);
    expect(await world.store.cleanup()).to.deep.equal({ left: 0 });
  });

  const no = deepest === highest ? ' and no more' : '';
  it(`${deepest} layers can be mounted${no}, each ${deepest / 10}th with a file of its own`, async function () {
    this.timeout(180_000);
    const { store } = world;
    const every = deepest / 10;
    for (let index = 0; index < deepest; index += 1) {
      const parent = index === 0 ? undefined : `${index - 1}`;
      const changes =
        index % every === 0 ? [file(`/file-${index}`, `${index}`), file('/top', `${index}`)] : [];
      await commit(world, `${index}`, parent, changes);
    }
    await withMount(world, await store.prepare('key', { parent: `${deepest - 1}` }), path => {
      for (let index = 0; index < deepest; index += every) {
        expect(readFileSync(join(path, `file-${index}`), 'utf8')).to.equal(`${index}`);
      }
      expect(readFileSync(join(path, 'top'), 'utf8')).to.equal(`${deepest - every}`);
      file('/new', 'x')(path);
    });
    expect((await contents(world, 'key')).filter(line => line.startsWith('/new '))).to.have.length(1);
    if (deepest !== highest) return;
    await store.commit('too high', 'key');
    expect(await rejection(store.prepare('new', { parent: 'too high' }))).to.be.instanceOf(
      FailedPrecondition,
    );
    expect(await rejection(store.view('new', { parent: 'too high' }))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(store.stat('new')), 'nothing is left of it').to.be.instanceOf(NotFound);
  });
}
