import { expect } from 'chai';
import {
  parseDriverName,
  parseVolumeName,
  parseVolumeNumber,
  type VolumeNumber,
} from '../../src/core/names.ts';
import type { CopyProgress } from '../../src/core/ports.ts';
import type { Pool, VolumeManifest } from '../../src/core/volumes/pool.ts';
import { Aborted, NotFound, Unavailable } from '../../src/errors/errors.ts';
import { rejection } from '../support/rejection.ts';

/** A pool, and a way to its bytes that does not lead through it. */
export interface PoolWorld {
  readonly pool: Pool;
  /** The same pool, opened anew as after a restart of the daemon. */
  reopen(): Promise<Pool>;
  /** Writes a file by its path below the pool's root, parents included. */
  write(path: string, text: string): Promise<void>;
  /** The text of a file; undefined without one. */
  read(path: string): Promise<string | undefined>;
  /** Owner and mode of a directory. */
  attributes(path: string): Promise<{ readonly uid: number; readonly gid: number; readonly mode: number }>;
  /** Names in a directory below the root, sorted. */
  list(path: string): Promise<readonly string[]>;
  /** A host directory that has one file `file` with the text `data`, mode 0710. @returns its path */
  source(): Promise<string>;
  /** The pool's disk goes; what is left is an empty directory. */
  takeAway(): Promise<void>;
  bringBack(): Promise<void>;
  close(): Promise<void>;
}

export const one = parseVolumeNumber(1);

export function manifest(number: VolumeNumber, changes: Partial<VolumeManifest> = {}): VolumeManifest {
  return {
    version: 1,
    number,
    name: parseVolumeName(`v${number}`),
    driver: parseDriverName('varve'),
    options: { mode: '0750' },
    createdAt: '2026-01-01T00:00:00.000Z',
    protected: false,
    ...changes,
  };
}

const copying = { signal: new AbortController().signal, onProgress: () => {} };

/** What every {@link Pool} does. */
export function poolSuite(name: string, open: () => Promise<PoolWorld>): void {
  describe(`Pool: ${name}`, () => {
    let world: PoolWorld;
    let pool: Pool;

    beforeEach(async () => {
      world = await open();
      pool = world.pool;
    });

    afterEach(() => world.close());

    it('is there, and empty', async () => {
      await pool.probe();
      expect(await pool.numbers()).to.deep.equal([]);
      const { freeBytes, totalBytes } = await pool.space();
      expect(freeBytes).to.be.greaterThan(0);
      expect(totalBytes).to.be.at.least(freeBytes);
    });

    it('makes a volume with its data directory and its manifest', async () => {
      await pool.create(manifest(one), { uid: 3, gid: 4, mode: 0o2750 });
      expect(await pool.has(one)).to.equal(true);
      expect(await pool.numbers()).to.deep.equal([1]);
      expect(await pool.read(one)).to.deep.equal({ number: 1, manifest: manifest(one) });
      expect(await world.attributes('1/data')).to.deep.equal({ uid: 3, gid: 4, mode: 0o2750 });
    });

    it('S11 hands out an empty directory below its root, never the root of a file system', async () => {
      await pool.create(manifest(one), {});
      expect(await world.list('1/data')).to.deep.equal([]);
      const [mount, ...more] = pool.mounts(one, '/mnt/x');
      expect(more).to.deep.equal([]);
      expect(mount).to.deep.equal({
        type: 'bind',
        source: pool.dataPath(one),
        target: '/mnt/x',
        readonly: false,
      });
      expect(pool.dataPath(one).startsWith(`${pool.root}/`)).to.equal(true);
    });

    it('keeps what others cannot pass: the directory above the data', async () => {
      await pool.create(manifest(one), { mode: 0o777 });
      expect(await world.attributes('1')).to.deep.equal({ uid: 0, gid: 0, mode: 0o700 });
    });

    it('creating again changes nothing, neither data nor manifest', async () => {
      await pool.create(manifest(one), { mode: 0o700 });
      await world.write('1/data/file', 'mine');
      await pool.create(manifest(one, { protected: true }), { mode: 0o755 });
      expect(await world.read('1/data/file')).to.equal('mine');
      expect((await world.attributes('1/data')).mode).to.equal(0o700);
      expect(await pool.read(one)).to.deep.equal({ number: 1, manifest: manifest(one) });
    });

    it('replaces a manifest, and only that of a volume that exists', async () => {
      await pool.create(manifest(one), {});
      await pool.writeManifest(manifest(one, { protected: true }));
      expect(await pool.read(one)).to.have.nested.property('manifest.protected', true);
      expect(await rejection(pool.writeManifest(manifest(parseVolumeNumber(2))))).to.be.instanceOf(NotFound);
    });

    it('makes a volume from a host directory, with its attributes unless others were asked for', async () => {
      const source = await world.source();
      const seen: CopyProgress[] = [];
      await pool.createFrom(manifest(one), { uid: 9 }, source, {
        ...copying,
        onProgress: progress => seen.push(progress),
      });
      expect(await world.read('1/data/file')).to.equal('data');
      expect(await world.attributes('1/data')).to.include({ uid: 9, mode: 0o710 });
      expect(seen.at(-1)?.doneBytes).to.equal(seen.at(-1)?.totalBytes);
    });

    it('a copy of nothing leaves no volume', async () => {
      const copy = pool.createFrom(manifest(one), {}, `${pool.root}/none`, copying);
      expect(await rejection(copy)).to.be.instanceOf(NotFound);
      expect(await pool.has(one)).to.equal(false);
      expect(await pool.numbers()).to.deep.equal([]);
    });

    it('a copy that is stopped leaves no volume, and can be made again', async () => {
      const source = await world.source();
      const stopped = pool.createFrom(manifest(one), {}, source, { ...copying, signal: AbortSignal.abort() });
      expect(await rejection(stopped)).to.be.instanceOf(Aborted);
      expect(await pool.has(one)).to.equal(false);
      await pool.createFrom(manifest(one), {}, source, copying);
      expect(await world.read('1/data/file')).to.equal('data');
    });

    it('throws away what an interrupted creation left', async () => {
      await world.write('new-1/data/half', 'x');
      await pool.create(manifest(one), {});
      expect(await world.list('1/data')).to.deep.equal([]);
      expect(await world.list('.')).not.to.include('new-1');
    });

    it('removes a volume from sight, and its bytes later', async () => {
      await pool.create(manifest(one), {});
      await world.write('1/data/deep/file', 'x');
      await pool.remove(one);
      expect(await pool.has(one)).to.equal(false);
      expect(await pool.numbers()).to.deep.equal([]);
      expect(await pool.emptyTrash()).to.equal(0);
      expect(await world.list('trash')).to.deep.equal([]);
    });

    it('removes what was never whole, or never there', async () => {
      await world.write('new-1/data/half', 'x');
      await pool.remove(one);
      await pool.remove(one);
      expect(await pool.emptyTrash()).to.equal(0);
      expect(await world.list('.')).not.to.include('new-1');
    });

    it('removes a volume whose number is in the trash already', async () => {
      for (let time = 0; time < 3; time += 1) {
        await pool.create(manifest(one), {});
        await pool.remove(one);
      }
      expect(await pool.numbers()).to.deep.equal([]);
      expect(await pool.emptyTrash()).to.equal(0);
    });

    it('deletes nothing that it did not name as its own', async () => {
      await world.write('stranger/file', 'x');
      await world.write('9/data/file', 'x');
      await world.write('old-1/file', 'x');
      await pool.create(manifest(one), {});
      await pool.remove(one);
      await pool.emptyTrash();
      for (const path of ['stranger/file', '9/data/file', 'old-1/file']) {
        expect(await world.read(path), path).to.equal('x');
      }
    });

    it('finds its volumes in order, and nothing else', async () => {
      for (const number of [10, 9, 1]) await pool.create(manifest(parseVolumeNumber(number)), {});
      for (const name of ['01', '0', '-1', '1x', 'new-5', '1e1', '9999999999999999']) {
        await world.write(`${name}/data/file`, 'x');
      }
      expect(await pool.numbers()).to.deep.equal([1, 9, 10]);
      expect(await (await world.reopen()).numbers()).to.deep.equal([1, 9, 10]);
    });

    it('measures a volume', async () => {
      await pool.create(manifest(one), {});
      const before = await pool.usage(one, copying.signal);
      await world.write('1/data/dir/file', 'x'.repeat(10_000));
      const after = await pool.usage(one, copying.signal);
      expect(after.inodes - before.inodes).to.equal(2);
      expect(after.bytes - before.bytes).to.be.at.least(10_000);
    });

    const good = JSON.stringify(manifest(one));
    const hostile: Readonly<Record<string, string>> = {
      'is empty': '',
      'is no JSON': '{',
      'is null': 'null',
      'is a list': '[]',
      'is a number': '7',
      'is of a newer version': good.replace('"version":1', '"version":2'),
      'is of another volume': good.replace('"number":1', '"number":2'),
      'names a path': good.replace('"v1"', '"../../etc"'),
      'names nothing': good.replace('"v1"', '""'),
      'has a driver with a path': good.replace('"varve"', '"a/b"'),
      'has a time that is none': good.replace('2026-01-01T00:00:00.000Z', 'yesterday'),
      'has a time that engines cannot read': good.replace('2026-01-01T00:00:00.000Z', '2026'),
      'has options that are no texts': good.replace('"0750"', '750'),
      'has options that are a list': good.replace('{"mode":"0750"}', '["mode"]'),
    };
    for (const [what, text] of Object.entries(hostile)) {
      it(`believes no manifest that ${what}`, async () => {
        await pool.create(manifest(one), {});
        await world.write('1/volume.json', text);
        const found = await pool.read(one);
        expect(found).to.have.property('damage').that.contains('volume.json cannot be used');
        expect(await pool.has(one)).to.equal(true);
      });
    }

    it('says that a manifest is missing', async () => {
      await world.write('1/data/file', 'x');
      expect(await pool.read(one)).to.deep.equal({ number: 1, damage: 'volume.json is missing' });
      expect(await pool.read(parseVolumeNumber(7))).to.have.property('damage');
    });

    it('takes nothing of a manifest but what it knows', async () => {
      await pool.create(manifest(one), {});
      await world.write(
        '1/volume.json',
        good.replace('"protected":false', '"protected":"yes","pool":"other"'),
      );
      expect(await pool.read(one)).to.deep.equal({ number: 1, manifest: manifest(one) });
    });

    it('does nothing without its disk, leaves the bare directory bare, and works again when it is back', async () => {
      await pool.create(manifest(one), {});
      await world.write('1/data/file', 'mine');
      await world.takeAway();
      const calls: Readonly<Record<string, (pool: Pool) => Promise<unknown>>> = {
        probe: each => each.probe(),
        create: each => each.create(manifest(parseVolumeNumber(2)), {}),
        createFrom: async each =>
          each.createFrom(manifest(parseVolumeNumber(2)), {}, await world.source(), copying),
        writeManifest: each => each.writeManifest(manifest(one)),
        remove: each => each.remove(one),
        emptyTrash: each => each.emptyTrash(),
        has: each => each.has(one),
        numbers: each => each.numbers(),
        read: each => each.read(one),
        usage: each => each.usage(one, copying.signal),
        space: each => each.space(),
      };
      for (const subject of [pool, await world.reopen()]) {
        for (const [call, make] of Object.entries(calls)) {
          expect(await rejection(make(subject)), call).to.be.instanceOf(Unavailable);
        }
      }
      expect(await world.list('.')).to.deep.equal([]);
      await world.bringBack();
      expect(await world.read('1/data/file')).to.equal('mine');
      await pool.create(manifest(parseVolumeNumber(2)), {});
      expect(await pool.numbers()).to.deep.equal([1, 2]);
    });
  });
}
