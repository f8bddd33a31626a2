import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import {
  attachUpperImage,
  detachUpperImage,
  dropUpperImage,
  hasUpperImage,
  makeUpperImage,
  writableHome,
} from '../../../src/drivers/layers/upper-image.ts';
import { InvalidArgument, NotFound, Unimplemented } from '../../../src/errors/errors.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { LoopDisk } from '../../support/loop-disk.ts';
import { rejection } from '../../support/rejection.ts';

const mebibyte = 1024 * 1024;

function loopsBelow(directory: string): readonly string[] {
  return readdirSync('/sys/block').filter(name => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').startsWith(directory);
    } catch {
      return false;
    }
  });
}

/** Writes until it fails. @returns the bytes that were taken, and the errno */
async function fill(path: string): Promise<{ readonly bytes: number; readonly code: unknown }> {
  const file = await open(path, 'w');
  const piece = Buffer.alloc(64 * 1024, 1);
  let bytes = 0;
  try {
    for (;;) {
      bytes += (await file.write(piece)).bytesWritten;
      if (bytes % mebibyte === 0) await file.datasync();
    }
  } catch (error) {
    return { bytes, code: (error as NodeJS.ErrnoException).code };
  } finally {
    await file.close();
  }
}

describe('the image of a limited layer', () => {
  let scratch: Scratch;
  let layer: string;
  const upper = (name = '') => join(layer, 'upper', name);

  beforeEach(async () => {
    scratch = await Scratch.make();
    layer = await scratch.directory('7');
  });

  afterEach(async () => {
    await scratch.remove();
    await until('the loop devices to be free', 5_000, () => loopsBelow(scratch.path).length === 0);
  });

  for (const size of [8, 50, 120, 128, 1000, 20_000]) {
    it(`leaves between 98 and 100 percent of a limit of ${size} MiB to the files`, async () => {
      const bytes = size * mebibyte;
      await makeUpperImage(layer, { bytes });
      const { bavail, bsize } = await statfs(upper());
      expect(bavail * bsize).to.be.within(bytes * 0.98, bytes);
      const { blocks } = await stat(join(layer, 'upper.img'));
      expect(blocks * 512, 'what an empty image takes itself').to.be.below(mebibyte);
    });
  }

  it('ends what is written over the limit with ENOSPC, at the limit', async () => {
    await makeUpperImage(layer, { bytes: 24 * mebibyte });
    const { bytes, code } = await fill(upper('file'));
    expect(code).to.equal('ENOSPC');
    expect(bytes).to.be.within(0.97 * 24 * mebibyte, 24 * mebibyte);
  });

  it('ends more files than the limit of inodes with ENOSPC, at the limit', async () => {
    await makeUpperImage(layer, { bytes: 16 * mebibyte, inodes: 100 });
    await mkdir(upper('fs'));
    await mkdir(upper('work'));
    let made = 0;
    const error = await rejection(
      (async () => {
        for (; ; made += 1) await writeFile(upper(`fs/${made}`), '');
      })(),
    );
    expect(error).to.have.property('code', 'ENOSPC');
    expect(made).to.be.within(84, 100);
  });

  it('refuses limits that ext4 cannot keep, and names the smallest', async () => {
    const small = await rejection(makeUpperImage(layer, { bytes: 8 * mebibyte - 1 }));
    expect(small).to.be.instanceOf(InvalidArgument);
    expect(small.message).to.include(`${8 * mebibyte} is the smallest`);
    const few = await rejection(makeUpperImage(layer, { bytes: 1024 * mebibyte, inodes: 50 }));
    expect(few).to.be.instanceOf(InvalidArgument);
    const [, least = ''] = /(\d+) is the smallest/.exec(few.message) ?? [];
    expect(await hasUpperImage(layer)).to.equal(false);
    await makeUpperImage(layer, { bytes: 1024 * mebibyte, inodes: Number(least) });
  });

  it('gives back on the disk below what is deleted in it', async () => {
    await makeUpperImage(layer, { bytes: 32 * mebibyte });
    const taken = async () => (await stat(join(layer, 'upper.img'))).blocks * 512;
    await writeFile(upper('file'), Buffer.alloc(20 * mebibyte, 1));
    await must('sync', '-f', upper());
    expect(await taken()).to.be.above(20 * mebibyte);
    await unlink(upper('file'));
    await must('sync', '-f', upper());
    await until('the space to be free', 10_000, async () => (await taken()) < 5 * mebibyte);
  });

  it('is mounted again with its files after it was unmounted, as a reboot does', async () => {
    await makeUpperImage(layer, { bytes: 16 * mebibyte });
    await writeFile(upper('file'), 'kept');
    await detachUpperImage(layer);
    await until('the device to be free', 5_000, () => loopsBelow(scratch.path).length === 0);
    await detachUpperImage(layer);
    expect(await readdir(upper())).to.deep.equal([]);
    await attachUpperImage(layer);
    await attachUpperImage(layer);
    expect(await readFile(upper('file'), 'utf8')).to.equal('kept');
    expect(readFileSync('/proc/self/mounts', 'utf8').split(`${upper()} `).length - 1, 'mounts').to.equal(1);
  });

  it('uses the device of an image that somebody still holds, never a second one', async () => {
    await makeUpperImage(layer, { bytes: 16 * mebibyte });
    await must('mount', '--bind', upper(), await scratch.directory('elsewhere'));
    await detachUpperImage(layer);
    await attachUpperImage(layer);
    expect(loopsBelow(scratch.path)).to.have.length(1);
  });

  it('moves with the directory of its layer while it is mounted', async () => {
    await makeUpperImage(layer, { bytes: 16 * mebibyte });
    await rename(layer, join(scratch.path, '8'));
    layer = join(scratch.path, '8');
    await writeFile(upper('file'), 'after');
    await detachUpperImage(layer);
    await attachUpperImage(layer);
    expect(await readFile(upper('file'), 'utf8')).to.equal('after');
  });

  it('says where the files of a layer stand, with an image and without', async () => {
    expect(await writableHome(layer)).to.equal(layer);
    await makeUpperImage(layer, { bytes: 16 * mebibyte });
    expect(await writableHome(layer)).to.equal(upper().replace(/\/$/, ''));
    await dropUpperImage(layer);
    await dropUpperImage(layer);
    expect(await readdir(layer)).to.deep.equal([]);
  });

  it('refuses to mount an image that is missing', async () => {
    expect(await rejection(attachUpperImage(layer))).to.be.instanceOf(NotFound);
  });

  it('names the package of mkfs.ext4 where it is missing', async () => {
    const path = process.env.PATH;
    process.env.PATH = scratch.path;
    const error = await rejection(makeUpperImage(layer, { bytes: 16 * mebibyte })).finally(() => {
      process.env.PATH = path;
    });
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('e2fsprogs');
  });

  it('gives writers EIO when the disk below is full', async () => {
    const disk = await LoopDisk.make(join(scratch.path, 'disk'), 32);
    const pool = await scratch.directory('pool');
    await disk.mount(pool);
    layer = await scratch.directory('pool/7');
    await makeUpperImage(layer, { bytes: 64 * mebibyte });
    expect((await fill(upper('file'))).code).to.equal('EIO');
    await detachUpperImage(layer);
  });

  for (const point of ['upper-image.mount:before', 'upper-image.mount:after']) {
    it(`is whole, and has one device, after kill -9 at ${point}`, async () => {
      await makeUpperImage(layer, { bytes: 16 * mebibyte });
      await detachUpperImage(layer);
      const faults = join(scratch.path, 'faults');
      await writeFile(faults, `${point} kill\n`);
      const module = new URL('../../../src/drivers/layers/upper-image.ts', import.meta.url).href;
      const script = `import { attachUpperImage } from '${module}'; await attachUpperImage(process.argv[1]);`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, layer], {
        env: { ...process.env, VARVE_FAULTS: faults },
        stdio: 'inherit',
      });
      const [, signal] = await once(child, 'exit');
      expect(signal).to.equal('SIGKILL');
      const mounted = point.endsWith('after') ? 1 : 0;
      await until(
        'only what is mounted to be left',
        5_000,
        () => loopsBelow(scratch.path).length === mounted,
      );
      await attachUpperImage(layer);
      expect(loopsBelow(scratch.path)).to.have.length(1);
      expect(await readdir(upper())).to.deep.equal(['lost+found']);
    });
  }
});
