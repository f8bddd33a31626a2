import { expect } from 'chai';
import { parsePoolName, parseVolumeName } from '../../../src/core/names.ts';
import { openDirectoryPool } from '../../../src/drivers/pools/directory/open.ts';
import { AlreadyExists } from '../../../src/errors/errors.ts';
import { MemoryStore } from '../../../src/store/memory/memory-store.ts';
import { manifest, one } from '../../suites/pool.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { rejection } from '../../support/rejection.ts';

describe('the number of a volume in a directory pool', () => {
  const root = '/pool';
  let disk: MemoryDisk;

  const open = () =>
    openDirectoryPool({
      ...{ disk, store: new MemoryStore(), name: parsePoolName('default'), path: root },
      ...{ owner: 'owner', newUuid: () => 'uuid', rebuild: false },
    });

  beforeEach(() => {
    disk = new MemoryDisk();
    disk.write('/seed/file', 'ours');
  });

  const copying = { signal: new AbortController().signal, onProgress: () => {} };
  const others = {
    'another name': { name: parseVolumeName('other') },
    'another time of creation': { createdAt: '2025-01-01T00:00:00.000Z' },
  };
  for (const [what, change] of Object.entries(others)) {
    it(`is refused when its directory is that of a volume with ${what}, which stays`, async () => {
      const pool = await open();
      await pool.create(manifest(one, change), {});
      disk.write(`${root}/1/data/file`, 'theirs');
      const before = disk.paths();
      const makers = [
        () => pool.create(manifest(one), {}),
        () => pool.createFrom(manifest(one), {}, '/seed', copying),
      ];
      for (const make of makers) {
        const error = await rejection(make());
        expect(error).to.be.instanceOf(AlreadyExists);
        expect(error.message).to.contain(`${root}/1`).and.to.contain('varve state check');
      }
      expect(disk.paths()).to.deep.equal(before);
      expect(disk.read(`${root}/1/data/file`)).to.equal('theirs');
    });
  }

  for (const text of [undefined, '{']) {
    it(`is refused when nobody can tell whose its directory is (volume.json: ${text ?? 'missing'})`, async () => {
      const pool = await open();
      disk.write(`${root}/1/data/file`, 'theirs');
      if (text !== undefined) disk.write(`${root}/1/volume.json`, text);
      expect(await rejection(pool.create(manifest(one), {}))).to.be.instanceOf(AlreadyExists);
      expect(disk.read(`${root}/1/data/file`)).to.equal('theirs');
    });
  }

  it('is found whole when the same volume is made again, whatever else has changed', async () => {
    const pool = await open();
    await pool.create(manifest(one), {});
    disk.write(`${root}/1/data/file`, 'ours');
    await pool.create(manifest(one, { protected: true, options: {} }), {});
    expect(disk.read(`${root}/1/data/file`)).to.equal('ours');
  });
});
