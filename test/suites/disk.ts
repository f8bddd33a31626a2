import { expect } from 'chai';
import type { Directory, Disk } from '../../src/core/ports.ts';
import { AlreadyExists, FailedPrecondition, InvalidArgument, NotFound } from '../../src/errors/errors.ts';
import { rejection } from '../support/rejection.ts';

/** A disk and an empty host directory on it. */
export interface DiskWorld {
  readonly disk: Disk;
  readonly path: string;
  close(): Promise<void>;
}

/**
 * What every {@link Disk} does. There is no fake disk: the Linux one on a temporary directory serves tests as
 * it is, and what core asks of a disk (durable moves, links that are not followed) would be the fake's bugs.
 */
export function diskSuite(name: string, open: () => Promise<DiskWorld>): void {
  describe(`Disk: ${name}`, () => {
    let world: DiskWorld;
    let disk: Disk;
    let root: Directory;
    const never = new AbortController().signal;

    beforeEach(async () => {
      world = await open();
      disk = world.disk;
      root = await disk.open(`${world.path}/root`, { make: true });
    });

    afterEach(async () => {
      await root.close();
      await world.close();
    });

    it('opens what exists, makes what is asked for with its parents, and refuses the rest', async () => {
      const made = await disk.open(`${world.path}/a/b/c`, { make: true });
      await made.close();
      const again = await disk.open(`${world.path}/a/b/c`);
      expect(again.path).to.equal(`${world.path}/a/b/c`);
      await again.close();
      expect(await rejection(disk.open(`${world.path}/none`))).to.be.instanceOf(NotFound);
      expect(await rejection(disk.open('relative', { make: true }))).to.be.instanceOf(InvalidArgument);
    });

    it('knows directories from files and from nothing', async () => {
      await root.writeFile('file', '');
      expect(await disk.isDirectory(root.path)).to.equal(true);
      expect(await disk.isDirectory(`${root.path}/file`)).to.equal(false);
      expect(await disk.isDirectory(`${root.path}/file/below`)).to.equal(false);
      expect(await disk.isDirectory(`${root.path}/none`)).to.equal(false);
    });

    it('tells where a directory really is, and nothing of a file or of nothing', async () => {
      await root.makeDirectory('a');
      await root.writeFile('file', '');
      expect(await disk.realDirectory('/')).to.equal('/');
      expect(await disk.realDirectory(`${root.path}/./a/`)).to.equal(`${root.path}/a`);
      expect(await disk.realDirectory(`${root.path}/file`)).to.equal(undefined);
      expect(await disk.realDirectory(`${root.path}/none`)).to.equal(undefined);
    });

    it('makes a directory with exactly the owner and mode that were asked for', async () => {
      await root.makeDirectory('a', { uid: 1234, gid: 5678, mode: 0o2777 });
      expect(await root.attributes('a')).to.deep.equal({ uid: 1234, gid: 5678, mode: 0o2777 });
      await root.makeDirectory('b');
      expect((await root.attributes('b')).mode).to.equal(0o755);
    });

    it('refuses to make what exists, unless it may', async () => {
      await root.makeDirectory('a');
      expect(await rejection(root.makeDirectory('a'))).to.be.instanceOf(AlreadyExists);
      await root.makeDirectory('a', { exist: 'ok', mode: 0o700 });
      expect((await root.attributes('a')).mode).to.equal(0o700);
      await root.writeFile('file', '');
      expect(await rejection(root.makeDirectory('file', { exist: 'ok' }))).to.be.instanceOf(AlreadyExists);
    });

    it('changes only the attributes that it is given', async () => {
      await root.makeDirectory('a', { uid: 1, gid: 2, mode: 0o4755 });
      await root.setAttributes('a', { gid: 3 });
      expect(await root.attributes('a')).to.include({ uid: 1, gid: 3 });
      await root.setAttributes('a', { mode: 0o1777 });
      expect(await root.attributes('a')).to.deep.equal({ uid: 1, gid: 3, mode: 0o1777 });
    });

    it('puts whole files in place and leaves nothing beside them', async () => {
      expect(await root.readFile('file')).to.equal(undefined);
      await root.writeFile('file', 'old');
      await root.writeFile('file', 'new ä');
      expect(await root.readFile('file')).to.equal('new ä');
      expect(await root.list('.')).to.deep.equal(['file']);
    });

    it('moves, but never over something', async () => {
      await root.makeDirectory('a');
      await root.makeDirectory('b');
      await root.makeDirectory('empty');
      await root.writeFile('a/file', 'text');
      expect(await rejection(root.rename('a', 'empty'))).to.be.instanceOf(AlreadyExists);
      await root.rename('a', 'b/moved');
      expect(await root.readFile('b/moved/file')).to.equal('text');
      expect(await root.exists('a')).to.equal(false);
      expect(await rejection(root.rename('a', 'c'))).to.be.instanceOf(NotFound);
    });

    it('lists names in order', async () => {
      for (const name of ['b', 'a', '10', '9']) await root.makeDirectory(name);
      expect(await root.list('.')).to.deep.equal(['10', '9', 'a', 'b']);
      expect(await rejection(root.list('none'))).to.be.instanceOf(NotFound);
    });

    it('removes an empty directory only, and a missing one is fine', async () => {
      await root.makeDirectory('a');
      await root.makeDirectory('a/b');
      expect(await rejection(root.removeDirectory('a'))).to.be.instanceOf(FailedPrecondition);
      await root.removeDirectory('a/b');
      await root.removeDirectory('a');
      await root.removeDirectory('a');
      expect(await root.list('.')).to.deep.equal([]);
    });

    it('removes a tree, and a missing one is fine', async () => {
      await root.makeDirectory('a');
      await root.makeDirectory('a/b');
      await root.writeFile('a/b/file', '');
      await root.removeTree('a');
      await root.removeTree('a');
      await root.removeTree('none/none');
      expect(await root.list('.')).to.deep.equal([]);
    });

    it('adds up what a tree occupies', async () => {
      await root.makeDirectory('a');
      const empty = await root.usage('a', never);
      expect(empty.inodes).to.equal(1);
      await root.writeFile('a/file', 'x'.repeat(100_000));
      const used = await root.usage('a', never);
      expect(used.inodes).to.equal(2);
      expect(used.bytes - empty.bytes).to.be.within(98_304, 131_072);
    });

    it('stops a measurement when it is told to', async () => {
      const error = await rejection(root.usage('.', AbortSignal.abort()));
      expect(error).to.have.property('code', 'Aborted');
    });

    it('knows the room that is left', async () => {
      const { freeBytes, totalBytes } = await root.space();
      expect(totalBytes).to.be.greaterThan(0);
      expect(freeBytes).to.be.within(0, totalBytes);
    });

    describe('a path', () => {
      for (const path of ['', '..', '../x', 'a/../../x', '/etc', 'a//b', 'a/', './a', 'a/.', 'a\0b']) {
        it(`${JSON.stringify(path)} is refused by every operation`, async () => {
          const operations = [
            () => root.makeDirectory(path),
            () => root.setAttributes(path, { mode: 0o777 }),
            () => root.attributes(path),
            () => root.readFile(path),
            () => root.writeFile(path, ''),
            () => root.rename(path, 'b'),
            () => root.rename('b', path),
            () => root.exists(path),
            () => root.list(path),
            () => root.removeTree(path),
            () => root.removeDirectory(path),
            () => root.setImmutable(path, true),
            () => root.usage(path, never),
          ];
          for (const operation of operations) {
            expect((await rejection(operation())).constructor.name).to.match(/^(InvalidArgument|NotFound)$/);
          }
        });
      }

      it('may be longer than any name, and is refused without harm', async () => {
        const error = await rejection(root.makeDirectory('x'.repeat(300)));
        expect(error).to.be.instanceOf(InvalidArgument);
      });
    });
  });
}
