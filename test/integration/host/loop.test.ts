import { readdirSync, readFileSync } from 'node:fs';
import { open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { NotFound } from '../../../src/errors/errors.ts';
import { mountFileSystem } from '../../../src/host/linux/file-system.ts';
import { attachLoop, findLoop } from '../../../src/host/linux/loop.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

/** The devices that show files below a directory. */
function devicesOn(directory: string): readonly string[] {
  return readdirSync('/sys/block').flatMap(name => {
    try {
      const file = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim();
      return file.startsWith(directory) ? [`/dev/${name}`] : [];
    } catch {
      return [];
    }
  });
}

describe('loop devices', () => {
  let scratch: Scratch;
  let image: string;
  const isFree = () => until('the device to be free', 5_000, () => devicesOn(scratch.path).length === 0);

  beforeEach(async () => {
    scratch = await Scratch.make();
    image = join(scratch.path, 'image');
    await writeFile(image, Buffer.alloc(1024 * 1024, 'varve'));
  });

  afterEach(async () => {
    await isFree();
    await scratch.remove();
  });

  it('shows the bytes of a file, and takes what is written', async () => {
    const device = await attachLoop(image);
    const file = await open(device.path, 'r+');
    const { buffer } = await file.read(Buffer.alloc(10), 0, 10, 5);
    expect(buffer.toString()).to.equal('varvevarve');
    await file.write(Buffer.alloc(4096, 'x'), 0, 4096, 8192);
    await file.sync();
    await file.close();
    await device.close();
    expect(readFileSync(image).subarray(8190, 8194).toString()).to.equal('vaxx');
  });

  it('frees itself when the last user is gone', async () => {
    const device = await attachLoop(image);
    expect(devicesOn(scratch.path)).to.deep.equal([device.path]);
    await device.close();
    await isFree();
    expect(await findLoop(image)).to.equal(undefined);
  });

  it('gives the same device for the same file, also after the file was renamed', async () => {
    const first = await attachLoop(image);
    await rename(image, `${image} moved`);
    const second = await attachLoop(`${image} moved`);
    expect(second.path).to.equal(first.path);
    await first.close();
    expect(devicesOn(scratch.path)).to.deep.equal([second.path]);
    await second.close();
  });

  it('gives each file a device of its own when many are attached at one time', async () => {
    const images = Array.from({ length: 12 }, (_, index) => `${image}-${index}`);
    await Promise.all(images.map(path => writeFile(path, Buffer.alloc(4096))));
    const devices = await Promise.all(images.map(attachLoop));
    expect(new Set(devices.map(device => device.path)).size).to.equal(12);
    await Promise.all(devices.map(device => device.close()));
  });

  it('is held by a mount alone', async () => {
    await must('mkfs.ext4', '-q', '-F', '-b', '4096', image);
    const target = await scratch.directory('mnt');
    const device = await attachLoop(image);
    await mountFileSystem(device.path, target, 'ext4', ['noinit_itable', 'discard']);
    await device.close();
    expect(devicesOn(scratch.path)).to.deep.equal([device.path]);
    expect(readFileSync('/proc/self/mounts', 'utf8')).to.match(
      new RegExp(`^${device.path} ${target} ext4 .*discard`, 'm'),
    );
    await must('umount', target);
  });

  it('refuses a missing file with NotFound, and names it', async () => {
    const error = await rejection(attachLoop(`${image}-missing`));
    expect(error).to.be.instanceOf(NotFound);
    expect(error.message).to.include(`${image}-missing`);
  });
});
