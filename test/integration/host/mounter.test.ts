import { open, rmdir } from 'node:fs/promises';
import { expect } from 'chai';
import { FailedPrecondition, NotFound, Unavailable } from '../../../src/errors/errors.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { mounterSuite } from '../../suites/mounter.ts';
import { inNamespace, must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

const bindInside = 'mount --bind "$1" "$2"';

mounterSuite('Linux', async () => {
  const scratch = await Scratch.make();
  return {
    mounter: new LinuxMounter(),
    directory: name => scratch.directory(name),
    container: (directory, mountPoint) => inNamespace('private', bindInside, directory, mountPoint),
    close: () => scratch.remove(),
  };
});

describe('LinuxMounter', () => {
  let scratch: Scratch;
  const mounter = new LinuxMounter();
  let source: string;
  let target: string;
  const mount = () => mounter.mount({ type: 'bind', source, target, readonly: false });

  beforeEach(async () => {
    scratch = await Scratch.make();
    // A file system of its own, whose mounts reach other namespaces, as those of a systemd host do.
    const shared = await scratch.directory('shared');
    await must('mount', '-t', 'tmpfs', 'varve-test', shared);
    await must('mount', '--make-shared', shared);
    source = await scratch.directory('shared/pool/7/data');
    target = await scratch.directory('shared/mnt/7');
  });

  afterEach(() => scratch.remove());

  it('refuses a missing source and a missing target with NotFound', async () => {
    await rmdir(target);
    expect(await rejection(mount())).to.be.instanceOf(NotFound);
    target = await scratch.directory('shared/mnt/7');
    await rmdir(source);
    expect(await rejection(mount())).to.be.instanceOf(NotFound);
  });

  it('refuses a symbolic link as source or target', async () => {
    const real = target;
    target = `${scratch.path}/link`;
    await must('ln', '-s', real, target);
    expect(await rejection(mount())).to.be.instanceOf(FailedPrecondition);
  });

  it('unmounts everything that is stacked on a target', async () => {
    await mount();
    await must('mount', '--bind', source, target);
    await mounter.unmount(target);
    expect((await mounter.table()).filter(entry => entry.mountPoint === target)).to.deep.equal([]);
  });

  it('refuses to unmount what a process has open, unless it is told to detach it', async () => {
    await mount();
    const file = await open(`${target}/file`, 'w');
    try {
      expect(await rejection(mounter.unmount(target))).to.be.instanceOf(FailedPrecondition);
      await mounter.unmount(target, { detach: true });
      expect((await mounter.table()).filter(entry => entry.mountPoint === target)).to.deep.equal([]);
      await file.writeFile('still open');
    } finally {
      await file.close();
    }
    await mounter.unmount(target, { detach: true });
  });

  it('lets a mount through to a namespace that shares it, and does not count the copy as a user', async () => {
    const peer = await inNamespace('unchanged', ':');
    const slave = await inNamespace('slave', ':');
    try {
      await mount();
      expect(await mounter.visibleTo(peer.pid, target, { elsewhere: false })).to.equal(true);
      expect(await mounter.visibleTo(slave.pid, target, { elsewhere: false })).to.equal(true);
      expect(await mounter.users(source, target)).to.deep.equal([]);
    } finally {
      await peer.end();
      await slave.end();
    }
  });

  it('S12 finds a propagated copy whose path differs over there, and does not count it as a user', async () => {
    const elsewhere = await scratch.directory('elsewhere');
    const script = 'mount --rbind "$1" "$2"; mount --make-rslave "$2"; umount --recursive "$1"';
    const peer = await inNamespace('slave', script, `${scratch.path}/shared`, elsewhere);
    try {
      expect(await mounter.visibleTo(peer.pid, target, { elsewhere: true })).to.equal(false);
      await mount();
      expect(await mounter.visibleTo(peer.pid, target, { elsewhere: true })).to.equal(true);
      expect(await mounter.visibleTo(peer.pid, target, { elsewhere: false })).to.equal(false);
      expect(await mounter.users(source, target)).to.deep.equal([]);
    } finally {
      await peer.end();
    }
  });

  it('S12 does not count a propagated copy in its own namespace, and counts a mount that somebody made there', async () => {
    const copy = await scratch.directory('copy');
    await must('mount', '--rbind', `${scratch.path}/shared`, copy);
    await must('mount', '--make-rslave', copy);
    await mount();
    const table = await mounter.table();
    expect(table.map(entry => entry.mountPoint)).to.include(`${copy}/mnt/7`);
    expect(await mounter.users(source, target)).to.deep.equal([]);
    const own = await scratch.directory('own');
    await must('mount', '--bind', source, own);
    expect(await mounter.users(source, target)).to.deep.equal([{ pid: process.pid, mountPoint: own }]);
  });

  it('counts a container that mounts the volume at the very path of our mount point', async () => {
    const script = 'mount -t tmpfs own "$3"; mkdir -p "$2"; mount --bind --make-private "$1" "$2"';
    await must('mkdir', '-p', `${scratch.path}/keep`);
    await must('mount', '--bind', source, `${scratch.path}/keep`);
    const container = await inNamespace(
      'private',
      script,
      `${scratch.path}/keep`,
      target,
      `${scratch.path}/shared`,
    );
    try {
      await mounter.unmount(`${scratch.path}/keep`);
      await mount();
      const users = await mounter.users(source, target);
      expect(users).to.deep.include({ pid: container.pid, mountPoint: target });
    } finally {
      await container.end();
    }
  });

  it('finds the users of a directory that was removed', async () => {
    const mountPoint = await scratch.directory('container');
    const container = await inNamespace('private', bindInside, source, mountPoint);
    try {
      await rmdir(source);
      expect(await mounter.users(source, target)).to.deep.equal([{ pid: container.pid, mountPoint }]);
    } finally {
      await container.end();
    }
  });

  it('finds users whose paths need escapes in the table', async () => {
    const odd = await scratch.directory('shared/pool/a b\\c\td/data');
    const mountPoint = await scratch.directory('container with space');
    const container = await inNamespace('private', bindInside, odd, mountPoint);
    try {
      expect(await mounter.users(odd, target)).to.deep.equal([{ pid: container.pid, mountPoint }]);
    } finally {
      await container.end();
    }
  });

  it('says Unavailable, not "invisible", of a process that has ended', async () => {
    const peer = await inNamespace('private', ':');
    await peer.end();
    expect(await rejection(mounter.visibleTo(peer.pid, target, { elsewhere: false }))).to.be.instanceOf(
      Unavailable,
    );
  });
});
