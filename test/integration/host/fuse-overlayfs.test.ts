import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import type { OverlaySource } from '../../../src/core/mount.ts';
import { FailedPrecondition, Internal, InvalidArgument, Unimplemented } from '../../../src/errors/errors.ts';
import { mountFuseOverlay } from '../../../src/host/linux/fuse-overlayfs.ts';
import { findDeadFuseMounts, findFuseServers } from '../../../src/host/linux/fuse-servers.ts';
import { openFuseView } from '../../../src/host/linux/fuse-view.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { escapedPath } from '../../../src/host/linux/overlay-options.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

describe('fuse-overlayfs', () => {
  let scratch: Scratch;
  let target: string;
  const at = (name: string) => join(scratch.path, name);
  const union = (lowers: readonly string[], writable = true): OverlaySource => ({
    type: 'fuse-overlayfs',
    options: [
      `lowerdir=${lowers.map(name => escapedPath(at(name))).join(':')}`,
      ...(writable ? [`upperdir=${at('upper')}`, `workdir=${at('work')}`] : []),
    ],
  });
  const ourServers = async () =>
    (await findFuseServers()).filter(server => server.target.startsWith(`${scratch.path}/`));
  const noServers = () => until('the process to end', 5_000, async () => (await ourServers()).length === 0);
  const lower = async (name: string) => {
    await writeFile(join(await scratch.directory(name), `of-${name}`), name);
    await writeFile(join(at(name), 'same'), name);
  };
  const killServer = async () => {
    for (const { pid } of await ourServers()) process.kill(pid, 'SIGKILL');
    await noServers();
  };
  const unmount = () => new LinuxMounter().unmount(target);
  const tableLines = () => readFileSync('/proc/self/mounts', 'utf8').split(`${target} `).length - 1;

  beforeEach(async () => {
    scratch = await Scratch.make();
    target = await scratch.directory('mnt');
    for (const name of ['upper', 'work']) await scratch.directory(name);
    for (const name of ['a', 'b']) await lower(name);
  });

  afterEach(async () => {
    await scratch.remove();
    await noServers();
  });

  it('shows the directories from the top down, and writes into the upper one', async () => {
    await mountFuseOverlay(union(['a', 'b']), target);
    expect((await readdir(target)).sort()).to.deep.equal(['of-a', 'of-b', 'same']);
    expect(await readFile(join(target, 'same'), 'utf8')).to.equal('a');
    await writeFile(join(target, 'new'), 'x');
    expect(await readdir(at('upper'))).to.deep.equal(['new']);
  });

  it('is read-only without an upper directory', async () => {
    await mountFuseOverlay(union(['a', 'b'], false), target);
    expect(await rejection(writeFile(join(target, 'new'), ''))).to.have.property('code', 'EROFS');
  });

  it('shows devices, as the overlay of the kernel does', async () => {
    await must('mknod', at('a/null'), 'c', '1', '3');
    await mountFuseOverlay(union(['a']), target);
    await writeFile(join(target, 'null'), 'gone');
    expect(await readdir(at('upper'))).to.deep.equal([]);
  });

  it('takes commas, backslashes and spaces in a path, and refuses a colon', async () => {
    await lower('a,b\\c d');
    await mountFuseOverlay(union(['a,b\\c d', 'a']), target);
    expect(await readFile(join(target, 'same'), 'utf8')).to.equal('a,b\\c d');
    await mountFuseOverlay(union(['a,b\\c d', 'a']), target);
    await unmount();
    const error = await rejection(mountFuseOverlay(union(['a:b']), target));
    expect(error).to.be.instanceOf(InvalidArgument);
    expect(error.message).to.include('a:b');
  });

  it('mounts 500 layers', async () => {
    const names = Array.from({ length: 500 }, (_, index) => `layer-${index}`);
    await Promise.all(names.map(lower));
    await mountFuseOverlay(union(names), target);
    expect(await readdir(target)).to.have.length(501);
    expect(await readFile(join(target, 'of-layer-499'), 'utf8')).to.equal('layer-499');
  });

  it('leaves a mount of the same alone, and refuses one of anything else', async () => {
    await mountFuseOverlay(union(['a', 'b']), target);
    await mountFuseOverlay(union(['a', 'b']), target);
    expect(await ourServers()).to.have.length(1);
    expect(await rejection(mountFuseOverlay(union(['b', 'a']), target))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(mountFuseOverlay(union(['a', 'b'], false), target))).to.be.instanceOf(
      FailedPrecondition,
    );
    await unmount();
    await must('mount', '-t', 'tmpfs', 'varve-test', target);
    expect(await rejection(mountFuseOverlay(union(['a', 'b']), target))).to.be.instanceOf(FailedPrecondition);
  });

  it('ends with the unmount', async () => {
    await mountFuseOverlay(union(['a']), target);
    expect(await ourServers()).to.have.length(1);
    await unmount();
    await noServers();
  });

  it('goes on when the process that mounted it is killed, also when it complains', async () => {
    const module = new URL('../../../src/host/linux/fuse-overlayfs.ts', import.meta.url).href;
    const script = `import { mountFuseOverlay } from '${module}';
      await mountFuseOverlay(JSON.parse(process.argv[1]), process.argv[2]); process.kill(process.pid, 'SIGKILL');`;
    const words = ['--input-type=module', '-e', script, JSON.stringify(union(['a'])), target];
    await once(spawn(process.execPath, words, { stdio: 'ignore' }), 'exit');
    const [server] = await ourServers();
    expect(readlinkSync(`/proc/${server?.pid}/fd/2`), 'where its complaints go').to.include('memfd');
    await writeFile(join(target, 'new'), 'x');
    expect(await readdir(at('upper'))).to.deep.equal(['new']);
  });

  it('is mounted anew after its process was killed, with what was written', async () => {
    await mountFuseOverlay(union(['a', 'b']), target);
    await writeFile(join(target, 'new'), 'x');
    expect(await findDeadFuseMounts(scratch.path)).to.deep.equal([]);
    await killServer();
    expect(await rejection(readdir(target))).to.have.property('code', 'ENOTCONN');
    expect(await findDeadFuseMounts(scratch.path)).to.deep.equal([target]);
    await mountFuseOverlay(union(['a', 'b']), target);
    expect(await readFile(join(target, 'new'), 'utf8')).to.equal('x');
    expect(tableLines()).to.equal(1);
    expect(await findDeadFuseMounts(scratch.path)).to.deep.equal([]);
  });

  it('can be unmounted after its process was killed', async () => {
    await mountFuseOverlay(union(['a']), target);
    await killServer();
    await unmount();
    expect(await readdir(target)).to.deep.equal([]);
  });

  it('gives the words of the program when it cannot mount, and leaves nothing', async () => {
    const error = await rejection(mountFuseOverlay(union(['missing']), target));
    expect(error).to.be.instanceOf(Internal);
    expect(error.message).to.match(/missing|read lower dirs/);
    await noServers();
    expect(tableLines()).to.equal(0);
  });

  it('names the package where the program is missing', async () => {
    const path = process.env.PATH;
    process.env.PATH = scratch.path;
    const error = await rejection(mountFuseOverlay(union(['a']), target)).finally(() => {
      process.env.PATH = path;
    });
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('install the package fuse-overlayfs');
  });

  describe('a view', () => {
    it('is open and mounted nowhere, and its process ends with it', async () => {
      const view = await openFuseView(union(['a', 'b'], false), await scratch.directory('views'));
      expect((await readdir(`/proc/self/fd/${view.fd}`)).sort()).to.deep.equal(['of-a', 'of-b', 'same']);
      expect(await readdir(at('views'))).to.deep.equal([]);
      expect(readFileSync('/proc/self/mounts', 'utf8')).not.to.include(scratch.path);
      await view.close();
      await noServers();
    });

    it('ends with the process that opened it, however it ends', async () => {
      const module = new URL('../../../src/host/linux/fuse-view.ts', import.meta.url).href;
      const script = `import { openFuseView } from '${module}';
        await openFuseView(JSON.parse(process.argv[1]), process.argv[2]); process.kill(process.pid, 'SIGKILL');`;
      const words = ['--input-type=module', '-e', script, JSON.stringify(union(['a'], false))];
      await once(spawn(process.execPath, [...words, await scratch.directory('views')]), 'exit');
      await noServers();
      expect(await readdir(at('views'))).to.deep.equal([]);
    });

    it('leaves nothing when it cannot be opened', async () => {
      expect(await rejection(openFuseView(union(['missing'], false), scratch.path))).to.be.instanceOf(
        Internal,
      );
      expect((await readdir(scratch.path)).filter(name => name.startsWith('new-view-'))).to.deep.equal([]);
    });
  });
});
