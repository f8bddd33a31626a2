import { expect } from 'chai';
import type { BindSource, Mount } from '../../src/core/mount.ts';
import type { Mounter } from '../../src/core/ports.ts';
import { FailedPrecondition } from '../../src/errors/errors.ts';
import { rejection } from '../support/rejection.ts';

/** A process with a mount namespace of its own, as a container has. */
export interface Container {
  readonly pid: number;
  end(): Promise<void>;
}

/** A mounter and what it needs around it. */
export interface MounterWorld {
  readonly mounter: Mounter;
  /** Makes an empty directory. @returns its absolute path */
  directory(name: string): Promise<string>;
  /** Starts a container that has `directory` mounted on `mountPoint`, and sees nothing that is mounted later. */
  container(directory: string, mountPoint: string): Promise<Container>;
  close(): Promise<void>;
}

/** What every {@link Mounter} does. */
export function mounterSuite(name: string, open: () => Promise<MounterWorld>): void {
  describe(`Mounter: ${name}`, () => {
    let world: MounterWorld;
    let mounter: Mounter;
    let source: string;
    let target: string;
    const bind = (changes: Partial<BindSource & { target: string }> = {}): Mount => ({
      type: 'bind',
      source,
      target,
      readonly: false,
      ...changes,
    });
    const entriesAt = async (path: string) =>
      (await mounter.table()).filter(({ mountPoint }) => mountPoint === path);

    beforeEach(async () => {
      world = await open();
      mounter = world.mounter;
      source = await world.directory('pool/7/data');
      target = await world.directory('mnt/7');
    });

    afterEach(() => world.close());

    it('shows a mount in the table, with the root and the mode that were asked for', async () => {
      await mounter.mount(bind());
      const [entry, ...others] = await entriesAt(target);
      expect(others).to.deep.equal([]);
      expect(entry?.root.endsWith('pool/7/data'), entry?.root).to.equal(true);
      expect(entry?.options).to.include('rw');
    });

    it('mounts once, however often it is asked', async () => {
      await mounter.mount(bind());
      await mounter.mount(bind());
      expect(await entriesAt(target)).to.have.length(1);
    });

    it('mounts read-only, and finishes a read-only mount that a crash left writable', async () => {
      await mounter.mount(bind());
      await mounter.mount(bind({ readonly: true }));
      const [entry] = await entriesAt(target);
      expect(entry?.options).to.include('ro');
    });

    it('refuses a writable mount where the same directory is mounted read-only', async () => {
      await mounter.mount(bind({ readonly: true }));
      expect(await rejection(mounter.mount(bind()))).to.be.instanceOf(FailedPrecondition);
    });

    it('refuses a target on which something else is mounted, and names it', async () => {
      await mounter.mount(bind({ source: await world.directory('pool/8/data') }));
      const error = await rejection(mounter.mount(bind()));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.include(target);
      expect(await entriesAt(target)).to.have.length(1);
    });

    it('unmounts, and takes a target that is not mounted as done', async () => {
      await mounter.mount(bind());
      await mounter.unmount(target);
      expect(await entriesAt(target)).to.deep.equal([]);
      await mounter.unmount(target);
      await mounter.unmount(`${target}-never-made`);
    });

    it('unmounts one target and no other', async () => {
      const other = await world.directory('mnt/70');
      await mounter.mount(bind());
      await mounter.mount(bind({ target: other }));
      await mounter.unmount(target);
      expect(await entriesAt(other)).to.have.length(1);
      await mounter.unmount(other);
    });

    describe('overlays', () => {
      let lower: string;
      const overlay = (options: readonly string[]): Mount => ({ type: 'overlay', options, target });
      const readonly = () => overlay(['index=off', `lowerdir=${source}:${lower}`]);
      const writable = async (name: string) => {
        const [upper, work] = [await world.directory(`${name}/fs`), await world.directory(`${name}/work`)];
        return overlay(['index=off', `upperdir=${upper}`, `workdir=${work}`, `lowerdir=${source}:${lower}`]);
      };

      beforeEach(async () => {
        lower = await world.directory('pool/6/data');
      });

      it('shows one in the table, writable with an upper directory', async () => {
        await mounter.mount(await writable('pool/8'));
        const [entry, ...others] = await entriesAt(target);
        expect(others).to.deep.equal([]);
        expect(entry?.fsType).to.equal('overlay');
        expect(entry?.options).to.include('rw');
      });

      it('mounts one without an upper directory read-only', async () => {
        await mounter.mount(readonly());
        const [entry] = await entriesAt(target);
        expect(entry?.options).to.include('ro');
      });

      it('mounts one once, however often it is asked', async () => {
        for (const mount of [readonly(), await writable('pool/8')]) {
          await mounter.mount(mount);
          await mounter.mount(mount);
          expect(await entriesAt(target)).to.have.length(1);
          await mounter.unmount(target);
        }
      });

      it('refuses one where another is mounted, or something else', async () => {
        await mounter.mount(await writable('pool/8'));
        for (const other of [readonly(), await writable('pool/9')]) {
          const error = await rejection(mounter.mount(other));
          expect(error).to.be.instanceOf(FailedPrecondition);
          expect(error.message).to.include(target);
        }
        await mounter.unmount(target);
        await mounter.mount(bind());
        expect(await rejection(mounter.mount(readonly()))).to.be.instanceOf(FailedPrecondition);
      });

      it('refuses a bind where an overlay is mounted', async () => {
        await mounter.mount(readonly());
        expect(await rejection(mounter.mount(bind()))).to.be.instanceOf(FailedPrecondition);
      });
    });

    describe('users', () => {
      it('has none for a directory that is mounted on the excepted mount point only', async () => {
        await mounter.mount(bind());
        expect(await mounter.users(source, target)).to.deep.equal([]);
      });

      it('finds a second mount of the same process', async () => {
        const other = await world.directory('elsewhere');
        await mounter.mount(bind());
        await mounter.mount(bind({ target: other }));
        expect(await mounter.users(source, target)).to.deep.equal([{ pid: process.pid, mountPoint: other }]);
        await mounter.unmount(other);
      });

      it('finds a container, until its process ends', async () => {
        const mountPoint = await world.directory('container/data');
        const container = await world.container(source, mountPoint);
        try {
          expect(await mounter.users(source, target)).to.deep.equal([{ pid: container.pid, mountPoint }]);
        } finally {
          await container.end();
        }
        expect(await mounter.users(source, target)).to.deep.equal([]);
      });

      it('finds a container that has only a directory below mounted', async () => {
        const below = await world.directory('pool/7/data/below');
        const mountPoint = await world.directory('container/data');
        const container = await world.container(below, mountPoint);
        try {
          expect(await mounter.users(source, target)).to.deep.equal([{ pid: container.pid, mountPoint }]);
        } finally {
          await container.end();
        }
      });

      it('does not take a directory for another whose name begins like it, nor for its parent', async () => {
        const longer = await world.directory('pool/7/data2');
        const container = await world.container(longer, await world.directory('container/data'));
        try {
          expect(await mounter.users(source, target)).to.deep.equal([]);
          expect(await mounter.users(longer, target)).to.have.length(1);
        } finally {
          await container.end();
        }
      });
    });

    describe('visibleTo', () => {
      it('sees a mount through this process itself, and none that is not there', async () => {
        expect(await mounter.visibleTo(process.pid, target, { elsewhere: false })).to.equal(false);
        await mounter.mount(bind());
        expect(await mounter.visibleTo(process.pid, target, { elsewhere: false })).to.equal(true);
      });

      it('does not see a mount that stays out of a private namespace', async () => {
        const mountPoint = await world.directory('container/data');
        const container = await world.container(source, mountPoint);
        try {
          await mounter.mount(bind());
          expect(await mounter.visibleTo(container.pid, target, { elsewhere: false })).to.equal(false);
          expect(await mounter.visibleTo(container.pid, mountPoint, { elsewhere: false })).to.equal(true);
        } finally {
          await container.end();
        }
      });
    });
  });
}
