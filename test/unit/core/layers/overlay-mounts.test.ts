import { expect } from 'chai';
import type { Stack } from '../../../../src/core/layers/layer-disk.ts';
import {
  escaped,
  mountDataLength,
  type OverlayPlan,
  overlaySource,
  overlayViewOptions,
} from '../../../../src/core/layers/overlay-mounts.ts';
import { type LayerNumber, parseLayerNumber } from '../../../../src/core/names.ts';
import { FailedPrecondition } from '../../../../src/errors/errors.ts';

const root = '/var/lib/varve/layers/docker';

function stack(...numbers: readonly number[]): Stack {
  return numbers.map(parseLayerNumber) as [LayerNumber, ...LayerNumber[]];
}

function source(numbers: readonly number[], changes: Partial<OverlayPlan> = {}) {
  const at = changes.root ?? root;
  const home = `${at}/${numbers[0]}`;
  const plan: OverlayPlan = {
    root: at,
    kind: 'active',
    use: 'images',
    userxattr: false,
    home,
    apart: false,
    ...changes,
  };
  return overlaySource(stack(...numbers), plan);
}

function optionsOf(numbers: readonly number[], changes: Partial<OverlayPlan> = {}): readonly string[] {
  const mount = source(numbers, changes);
  if (mount.type === 'bind') throw new Error('this is a bind');
  return mount.options;
}

/** Numbers down from `highest`, a writable layer first. */
function high(lowers: number, highest: number): number[] {
  return Array.from({ length: lowers + 1 }, (_, index) => highest - index);
}

describe('overlay mounts', () => {
  it('a layer without a parent is a bind of its files: writable when active, read-only as a view', () => {
    expect(source([7])).to.deep.equal({ type: 'bind', source: `${root}/7/fs`, readonly: false });
    expect(source([7], { kind: 'view' })).to.deep.equal({
      type: 'bind',
      source: `${root}/7/fs`,
      readonly: true,
    });
  });

  it('a view of one parent is a read-only bind of that', () => {
    expect(source([8, 7], { kind: 'view' })).to.deep.equal({
      type: 'bind',
      source: `${root}/7/fs`,
      readonly: true,
    });
  });

  it('a committed layer alone is a read-only bind of its files', () => {
    expect(source([7], { kind: 'committed' })).to.deep.equal({
      type: 'bind',
      source: `${root}/7/fs`,
      readonly: true,
    });
  });

  it('an active layer is one flat overlay over all that is beneath, nearest first', () => {
    const options = optionsOf([40, 39, 36]);
    expect(options).to.include(`upperdir=${root}/40/fs`);
    expect(options).to.include(`workdir=${root}/40/work`);
    expect(options).to.include(`lowerdir=${root}/l/13:${root}/l/10`);
  });

  it('a view of several layers has no upper directory, and does not show its own', () => {
    const options = optionsOf([40, 39, 36], { kind: 'view' });
    expect(options.filter(option => /^(upper|work)dir=/.test(option))).to.deep.equal([]);
    expect(options).to.include(`lowerdir=${root}/l/13:${root}/l/10`);
  });

  it('a committed stack shows its own layer as well', () => {
    expect(optionsOf([40, 39], { kind: 'committed' })).to.include(`lowerdir=${root}/l/14:${root}/l/13`);
  });

  it('a layer with a limit has its files in the file system of its own', () => {
    const home = `${root}/8/upper`;
    expect(source([8], { home, apart: true })).to.include({ source: `${home}/fs` });
    const options = optionsOf([8, 7], { home, apart: true });
    expect(options).to.include.members([`upperdir=${home}/fs`, `workdir=${home}/work`, 'xino=auto']);
  });

  it('images: the upper directory is the difference, so nothing is indexed, redirected or only metadata', () => {
    for (const kind of ['active', 'view', 'committed'] as const) {
      const options = optionsOf([9, 8, 7], { kind });
      expect(options).to.include.members(['index=off', 'metacopy=off', 'redirect_dir=nofollow']);
    }
  });

  it('volumes: hard links and renamed directories are kept, and a view follows them', () => {
    const options = optionsOf([9, 8, 7], { use: 'volumes' });
    expect(options).to.include.members(['index=on', 'metacopy=off', 'redirect_dir=on']);
    const view = optionsOf([9, 8, 7], { use: 'volumes', kind: 'view' });
    expect(view).to.include.members(['index=off', 'metacopy=off', 'redirect_dir=follow']);
  });

  it('says userxattr exactly when trusted attributes cannot be set', () => {
    expect(optionsOf([8, 7])).not.to.include('userxattr');
    expect(optionsOf([8, 7], { userxattr: true })).to.include('userxattr');
  });

  it('never waives durability', () => {
    for (const use of ['images', 'volumes'] as const)
      expect(optionsOf([8, 7], { use })).not.to.include('volatile');
  });

  it('escapes backslash, colon and comma in paths', () => {
    const odd = '/a:b,c\\d';
    expect(escaped(odd)).to.equal('/a\\:b\\,c\\\\d');
    const options = optionsOf([8, 7], { root: odd });
    expect(options).to.include.members([
      'lowerdir=/a\\:b\\,c\\\\d/l/7',
      'upperdir=/a\\:b\\,c\\\\d/8/fs',
      'workdir=/a\\:b\\,c\\\\d/8/work',
    ]);
    expect(overlayViewOptions([odd], { use: 'images', userxattr: false })).to.include(
      'lowerdir=/a\\:b\\,c\\\\d',
    );
  });

  describe('of high stacks', () => {
    const highest = 36 ** 6 - 1;

    it('takes 500 layers beneath, in a page once an engine has shortened their paths', () => {
      const options = optionsOf(high(500, highest));
      expect(options.join(',').length).to.be.above(4096);
      expect(mountDataLength(options)).to.be.at.most(4095);
    });

    it('refuses 501, and says what to do', () => {
      expect(() => source(high(501, 1000))).to.throw(FailedPrecondition, /501 layers.*merge/);
      expect(() => source(high(501, 1000), { kind: 'view' })).to.throw(FailedPrecondition, /501 layers/);
    });

    it('refuses what would not fit into a page, whatever the reason', () => {
      const long = `/${'a'.repeat(1500)}`;
      expect(() => source(high(500, 36 ** 6 - 1), { root: long })).to.throw(
        FailedPrecondition,
        /bytes of options.*merge/,
      );
    });

    it('counts options that are shorter than a page less 512 bytes as they are', () => {
      const options = optionsOf(high(10, 100));
      expect(mountDataLength(options)).to.equal(options.join(',').length);
    });

    it('counts what containerd would pass: paths relative to the directory that all have in common', () => {
      const paths = Array.from({ length: 100 }, (_, index) => `/${'x'.repeat(50)}/l/${1000 + index}`);
      const options = ['index=off', `lowerdir=${paths.join(':')}`];
      expect(mountDataLength(options)).to.equal('index=off,lowerdir='.length + 100 * 5 - 1);
    });

    it('does not count on paths with nothing in common, nor on a single one', () => {
      const apart = ['lowerdir=/a/'.padEnd(4000, 'x').concat(':/b/l/1')];
      expect(mountDataLength(apart)).to.equal(apart[0]?.length);
      const single = ['lowerdir=/a/'.padEnd(4000, 'x')];
      expect(mountDataLength(single)).to.equal(4000);
    });
  });
});
