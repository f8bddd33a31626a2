/** The same archives, unpacked by us, by containerd and by GNU tar: the trees are the same to the last attribute. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { expect } from 'chai';
import { debianTar } from '../../../scripts/lib/debian-tree.ts';
import { must } from '../../../scripts/lib/process.ts';
import { TestContainerd } from '../../support/containerd.ts';
import { makeImageArchive } from '../../support/image-archive.ts';
import { register } from '../../support/layer-archive.ts';
import { type FileSystem, LayerHost } from '../../support/layer-host.ts';
import { withMount } from '../../support/layer-world.ts';
import { readWholeTree, treeDifferences, type WholeEntry } from '../../support/whole-tree.ts';
import { directory, type Entry, file, hardlink, symlink, tarOf } from './apply-world.ts';

const minutes = 60_000;
/** CAP_NET_RAW, as setcap(8) writes it (capabilities(7), VFS_CAP_REVISION_2). */
const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex').toString('latin1');
/** On the Debian tree: one with a file capability, one with set-user-ID programs, one with hard links. */
const packages = ['iputils-ping', 'passwd', 'perl-base'];

const becomesFile = 'usr/share/doc/perl-base';

/**
 * What packages do not hold, over the files of a Debian. A hard link to a file of a lower layer is not among it:
 * containerd 1.6 fails at it (ENOENT); apply.test.ts has it.
 */
const changes: readonly Entry[] = [
  directory('.', { mode: 0o755 }),
  directory('etc'),
  file('etc/.wh.motd'),
  file('etc/.wh.issue.net'),
  file('usr/share/doc/.wh.passwd'),
  directory('etc/pam.d', { mode: 0o750, gid: 42 }),
  file('etc/pam.d/login', 'auth required pam_deny.so\n'),
  file('etc/pam.d/.wh..wh..opq'),
  directory('opt/attributes', { mtime: { seconds: -1, nanoseconds: 999_999_999 } }),
  file('opt/attributes/ping', 'elf', { mode: 0o755, xattrs: { 'security.capability': capability } }),
  file('opt/attributes/note', 'text', { xattrs: { 'user.comment': 'h\xc3\xa9\0\xff', 'user.empty': '' } }),
  file('opt/attributes/before', '', { mtime: { seconds: -86_400, nanoseconds: 1 } }),
  file('opt/attributes/owner', '', { uid: 4_000_000, gid: 3_000_000, mode: 0o6755 }),
  file('opt/attributes/latin1-\xe9', 'bytes'),
  symlink('opt/attributes/link', '/nowhere/\xe9', { mtime: { seconds: 1, nanoseconds: 123_456_789 } }),
  { path: 'opt/attributes/pipe', type: 'fifo', mode: 0o600 },
  { path: 'opt/attributes/null', type: 'character', mode: 0o666, device: { major: 1, minor: 3 } },
  { path: 'opt/attributes/disk', type: 'block', mode: 0o660, device: { major: 259, minor: 70_000 } },
  file(becomesFile, 'a file where a directory was'),
  directory('etc/hostname', { mode: 0o700 }),
  file('etc/hostname/inside', 'a directory where a file was'),
  hardlink('opt/attributes/again', 'opt/attributes/note'),
];

/**
 * Containerd 1.6 gives directories above an entry that the archive does not name, and the top always, the time at
 * which it unpacks, and takes a time before 1970 for 1970.
 */
const lostTimes = [
  ...[': mtime', 'opt: mtime', 'opt/attributes: mtime', 'opt/attributes/before: mtime'],
  ...['usr: mtime', 'usr/share: mtime', 'usr/share/doc: mtime'],
];

describe('Unpacking as others do', function () {
  this.timeout(3 * minutes);
  let scratch: string;
  let layers: readonly string[];
  let tar: ReadonlyMap<string, WholeEntry>;
  let containerd: ReadonlyMap<string, WholeEntry>;

  before(async function () {
    // The first time a Debian is laid out, over the network.
    this.timeout(20 * minutes);
    scratch = mkdtempSync(join(tmpdir(), 'varve-differential-'));
    layers = await makeLayers(scratch);
    tar = await withTar(scratch, layers);
    containerd = await inContainerd(scratch, layers);
  });

  after(() => rmSync(scratch, { recursive: true, force: true }));

  for (const [driver, fileSystem] of [
    ['overlay', 'ext4'],
    ['btrfs', 'btrfs'],
  ] as const) {
    describe(`${driver} on ${fileSystem}`, () => {
      let ours: ReadonlyMap<string, WholeEntry>;

      before(async () => {
        ours = await inStore(driver, fileSystem, layers);
      });

      it('has what GNU tar has, but for times of change of directories in which tar works once more', () => {
        expect(treeDifferences(withoutDirectoryTimes(ours), withoutDirectoryTimes(tar))).to.deep.equal([]);
      });

      it('has what containerd has, but for times of change that containerd loses', () => {
        const differences = treeDifferences(ours, containerd).map(line => line.replace(/ \S+ \| \S+$/, ''));
        expect(differences).to.deep.equal(lostTimes);
      });
    });
  }
});

/** A Debian, some of its packages as they come, and changes that no package makes. */
async function makeLayers(scratch: string): Promise<readonly string[]> {
  const base = join(scratch, 'base.tar');
  await must('cp', [await debianTar([]), base]);
  await must('apt-get', ['download', ...packages], { cwd: scratch, timeoutMs: 5 * minutes });
  const archives = [base];
  for (const name of readdirSync(scratch).filter(each => each.endsWith('.deb'))) {
    const archive = join(scratch, `${name}.tar`);
    await must('sh', ['-c', 'exec dpkg-deb --fsys-tarfile "$1" > "$2"', 'sh', join(scratch, name), archive]);
    archives.push(archive);
  }
  const last = join(scratch, 'changes.tar');
  writeFileSync(last, tarOf(changes));
  return [...archives, last];
}

async function inStore(
  driver: string,
  fileSystem: FileSystem,
  layers: readonly string[],
): Promise<ReadonlyMap<string, WholeEntry>> {
  const host = await LayerHost.make(fileSystem);
  try {
    const world = await host.open(driver);
    try {
      for (const [index, archive] of layers.entries()) {
        await register(world, `${index}`, index === 0 ? undefined : `${index - 1}`, archive);
      }
      const sources = await world.store.view('look', { parent: `${layers.length - 1}` });
      return await withMount(world, sources, readWholeTree);
    } finally {
      await world.close();
    }
  } finally {
    await host.remove();
  }
}

async function inContainerd(
  scratch: string,
  layers: readonly string[],
): Promise<ReadonlyMap<string, WholeEntry>> {
  const name = 'docker.io/varve/differential:1';
  const image = await makeImageArchive(join(scratch, 'image.tar'), name, layers);
  const containerd = await TestContainerd.start();
  try {
    await containerd.ctr('images', 'import', image.path);
    return await containerd.mounting(image, readWholeTree);
  } finally {
    await containerd.stop();
  }
}

/** Tar puts links that lead outside in their place at the end, and directories then have the time of that. */
function withoutDirectoryTimes(tree: ReadonlyMap<string, WholeEntry>): ReadonlyMap<string, WholeEntry> {
  const isDirectory = ({ mode = '' }: WholeEntry) => mode.startsWith('4');
  return new Map(
    [...tree].map(([path, entry]) => [path, isDirectory(entry) ? { ...entry, mtime: '' } : entry]),
  );
}

/** Tar knows no whiteouts, and replaces no directory that is not empty. */
async function withTar(scratch: string, layers: readonly string[]): Promise<ReadonlyMap<string, WholeEntry>> {
  const root = mkdtempSync(join(scratch, 'tar-'));
  for (const archive of layers) {
    const { stdout } = await must('tar', ['--list', `--file=${archive}`]);
    for (const path of stdout.trimEnd().split('\n')) makeWay(root, path);
    const words = ['--extract', '--numeric-owner', '--same-owner', '--same-permissions'];
    const attributes = ['--xattrs', '--xattrs-include=*', '--exclude=.wh.*'];
    await must('tar', [...words, ...attributes, `--file=${archive}`, `--directory=${root}`]);
  }
  return readWholeTree(root);
}

function makeWay(root: string, path: string): void {
  const [place, name] = [join(root, dirname(path)), basename(path)];
  if (name === '.wh..wh..opq') {
    rmSync(place, { recursive: true });
    mkdirSync(place);
  } else if (name.startsWith('.wh.')) {
    rmSync(join(place, name.slice('.wh.'.length)), { recursive: true, force: true });
  } else if (path === becomesFile) rmSync(join(root, path), { recursive: true, force: true });
}
