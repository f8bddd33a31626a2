import { chmod, lstat, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { parsePoolName, parseVolumeNumber } from '../../../src/core/names.ts';
import { openDirectoryPool } from '../../../src/drivers/pools/directory/open.ts';
import { Exhausted } from '../../../src/errors/errors.ts';
import { LinuxDisk } from '../../../src/host/linux/disk.ts';
import { MemoryStore } from '../../../src/store/memory/memory-store.ts';
import { manifest, one, type PoolWorld, poolSuite } from '../../suites/pool.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

interface RealWorld extends PoolWorld {
  readonly scratch: Scratch;
}

/** A pool on a small file system of its own. */
async function openReal(size = '64m'): Promise<RealWorld> {
  const scratch = await Scratch.make();
  const root = await scratch.directory('pool');
  const elsewhere = await scratch.directory('elsewhere');
  await must('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'varve-test', elsewhere);
  await must('mount', '--bind', elsewhere, root);
  const disk = new LinuxDisk();
  const store = new MemoryStore();
  const reopen = () => {
    const name = parsePoolName('default');
    return openDirectoryPool({
      disk,
      store,
      name,
      path: root,
      owner: 'owner',
      newUuid: () => 'uuid-1',
      rebuild: false,
    });
  };
  const pool = await reopen();
  return {
    scratch,
    pool,
    reopen,
    write: async (path, text) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    },
    read: path => readFile(join(root, path), 'utf8').catch(() => undefined),
    attributes: async path => {
      const { uid, gid, mode } = await lstat(join(root, path));
      return { uid, gid, mode: mode & 0o7777 };
    },
    list: async path => (await readdir(join(root, path))).sort(),
    source: async () => {
      const source = await scratch.directory('seed');
      await writeFile(join(source, 'file'), 'data');
      await chmod(source, 0o710);
      return source;
    },
    takeAway: async () => void (await must('umount', root)),
    bringBack: async () => void (await must('mount', '--bind', elsewhere, root)),
    close: () => scratch.remove(),
  };
}

poolSuite('directory, on a real disk', openReal);

describe('a directory pool on a real disk', () => {
  let world: RealWorld;

  afterEach(() => world.scratch.remove());

  it('a full disk is Exhausted, and what was half made goes with the volume', async () => {
    world = await openReal('1m');
    const { pool } = world;
    const source = await world.scratch.directory('big');
    await writeFile(join(source, 'file'), Buffer.alloc(3 << 20, 1));
    const options = { signal: new AbortController().signal, onProgress: () => {} };
    const error = await rejection(pool.createFrom(manifest(one), {}, source, options));
    expect(error).to.be.instanceOf(Exhausted);
    expect(await pool.has(one)).to.equal(false);
    await pool.remove(one);
    expect(await pool.emptyTrash()).to.equal(0);
    await pool.create(manifest(one), {});
    expect(await pool.has(one)).to.equal(true);
  });

  it('a disk without room for one more file is Exhausted', async () => {
    world = await openReal('64k');
    const filler = join(world.pool.root, 'filler');
    await writeFile(filler, Buffer.alloc(60_000)).catch(() => {});
    await must('mount', '-o', 'remount,nr_inodes=4', world.pool.root);
    expect(await rejection(world.pool.create(manifest(one), {}))).to.be.instanceOf(Exhausted);
    expect(await world.pool.has(one)).to.equal(false);
  });

  it('trash with a mount in it is left for later, and the rest goes', async () => {
    world = await openReal();
    const { pool } = world;
    const two = parseVolumeNumber(2);
    for (const number of [one, two]) {
      await pool.create(manifest(number), {});
      await world.write(`${number}/data/dir/file`, 'x');
    }
    await must('mount', '-t', 'tmpfs', 'varve-test', join(pool.dataPath(one), 'dir'));
    const inside = join(pool.root, 'trash/1/data/dir');
    for (const number of [one, two]) await pool.remove(number);
    await writeFile(join(inside, 'precious'), 'x');
    expect(await pool.emptyTrash()).to.equal(1);
    expect(await readFile(join(inside, 'precious'), 'utf8')).to.equal('x');
    expect(await world.list('trash')).to.deep.equal(['1']);
    await must('umount', inside);
    expect(await pool.emptyTrash()).to.equal(0);
  });

  it('follows no link that stands in the place of a volume, its manifest or its draft', async () => {
    world = await openReal();
    const { pool } = world;
    const outside = await world.scratch.directory('outside');
    await writeFile(join(outside, 'volume.json'), JSON.stringify(manifest(one)));
    await mkdir(join(outside, 'data'));
    await symlink(outside, join(pool.root, '1'));
    await symlink(outside, join(pool.root, 'new-2'));
    await symlink(outside, join(pool.root, 'new-3'));
    await writeFile(join(pool.root, '4'), 'a file');
    for (const number of [one, parseVolumeNumber(4)]) {
      expect(await pool.read(number))
        .to.have.property('damage')
        .that.contains(pool.root);
      expect(await pool.has(number)).to.equal(false);
    }
    await pool.create(manifest(parseVolumeNumber(2)), {});
    for (const number of [one, parseVolumeNumber(3)]) await pool.remove(number);
    expect(await pool.emptyTrash()).to.equal(0);
    expect((await readdir(outside)).sort()).to.deep.equal(['data', 'volume.json']);
    expect((await lstat(join(pool.root, '2'))).isDirectory()).to.equal(true);
  });
});
