import { randomBytes } from 'node:crypto';
import {
  closeSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { must, Scratch } from '../../support/host-scratch.ts';
import { readAll, writeAll } from '../../unit/tar/archive.ts';
import { scan, type Tree, treeOf } from './tree.ts';

/** Each format holds what those before it do: a directory of the tree for what each adds. */
const parts = ['v7', 'ustar', 'gnu', 'pax'] as const;
type Part = (typeof parts)[number];

const formats: readonly (readonly [format: string, last: Part])[] = [
  ['v7', 'v7'],
  ['ustar', 'ustar'],
  ['oldgnu', 'gnu'],
  ['gnu', 'gnu'],
  ['pax', 'pax'],
];
const withXattrs = ['--xattrs', '--xattrs-include=*'];
const capability = '0x0100000200200000000000000000000000000000';
const allBytes = `0x${Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString('hex')}`;

function partsUpTo(last: Part): readonly Part[] {
  return parts.slice(0, parts.indexOf(last) + 1);
}

async function makeTree(root: string): Promise<void> {
  await must(
    'sh',
    '-ec',
    `
    cd "$1"; mkdir -p v7/d/deep v7/empty ustar gnu pax
    printf hello > v7/file; : > v7/nothing; printf x > v7/setuid
    ln -s ../file v7/d/link; ln -s nowhere/at-all v7/dangling
    ln v7/file v7/d/second; ln -P v7/d/link v7/hard-to-symlink
    chown 1000:100 v7/d v7/setuid; chown -h 5:6 v7/d/link; chmod 4755 v7/setuid; chmod 1777 v7/d; chmod 0 v7/nothing
    mkfifo -m 600 ustar/fifo; mknod ustar/null c 1 3; mknod ustar/large c 4095 1048575; mknod ustar/disk b 7 200
  `,
    'sh',
    root,
  );
  writeFileSync(join(root, 'v7/d/deep/random'), randomBytes(1_500_001));
  writeFileSync(Buffer.from(`${root}/v7/\xff\xfe \n%=`, 'latin1'), 'not UTF-8');
  const ustarPath = join(root, 'ustar', 'u'.repeat(80), 'v'.repeat(60));
  mkdirSync(ustarPath, { recursive: true });
  writeFileSync(join(ustarPath, 'w'.repeat(95)), 'in prefix and name');
  const longPath = join(root, 'gnu', ...Array.from({ length: 6 }, (_, at) => String(at).repeat(200)));
  mkdirSync(longPath, { recursive: true });
  writeFileSync(join(longPath, 'n'.repeat(255)), 'far down');
  linkSync(join(longPath, 'n'.repeat(255)), join(root, 'gnu/second'));
  symlinkSync('t/'.repeat(2000), join(root, 'gnu/far'));
  for (const name of ['gnu/user', 'gnu/old']) writeFileSync(join(root, name), name);
  lchownSync(join(root, 'gnu/user'), 4_000_000_000, 4_294_967_294);
  for (const name of ['capable', 'attributes', 'old', 'new', 'precise'])
    writeFileSync(join(root, 'pax', name), name);
  mkdirSync(join(root, 'pax/directory'));
  symlinkSync('capable', join(root, 'pax/link'));
  const set = (name: string, value: string, path: string): Promise<string> =>
    must('setfattr', '-h', '-n', name, '-v', value, join(root, 'pax', path));
  await set('security.capability', capability, 'capable');
  await set('user.bytes', allBytes, 'attributes');
  await set('user.empty', '', 'attributes');
  await set('user.a=b%3D%', '0x0a', 'attributes');
  await set('trusted.x', '0x00', 'directory');
  await set('trusted.link', '0x01', 'link');
  await must(
    'sh',
    '-ec',
    `
    cd "$1"; find v7 ustar gnu -exec touch -h -d @1700000001 {} +
    touch -d @-1000000 gnu/old; touch -d @8589934592 gnu/user
    touch -d @-1.5 pax/old; touch -d @1.000000001 pax/precise; touch -d '2400-01-01 00:00:00.5 UTC' pax/new
  `,
    'sh',
    root,
  );
}

describe('GNU tar as the other side', () => {
  let scratch: Scratch;
  let root: string;

  before(async () => {
    scratch = await Scratch.make();
    root = await scratch.directory('tree');
    await makeTree(root);
  });
  after(() => scratch.remove());

  async function pack(name: string, ...args: readonly string[]): Promise<Buffer> {
    const file = join(scratch.path, `${name}.tar`);
    await must('tar', '-C', root, '-cf', file, ...args);
    return readFileSync(file);
  }

  async function unpack(name: string, archive: Buffer, which: readonly string[]): Promise<Tree> {
    const into = await scratch.directory(name);
    const file = join(scratch.path, `${name}.tar`);
    writeFileSync(file, archive);
    await must('tar', '-C', into, '-xpf', file, '--numeric-owner', ...withXattrs);
    return await scan(into, which);
  }

  for (const [format, last] of formats) {
    it(`what it writes as ${format} is read, every field`, async () => {
      const which = partsUpTo(last);
      const xattrs = format === 'pax' ? withXattrs : [];
      const archive = await pack(`from-${format}`, `--format=${format}`, ...xattrs, ...which);
      same(treeOf(readAll(archive)), await scan(root, which));
    });

    it(`what was ${format} and is written anew is what it unpacks`, async () => {
      const which = partsUpTo(last);
      const xattrs = format === 'pax' ? withXattrs : [];
      const archive = await pack(`again-${format}`, `--format=${format}`, ...xattrs, ...which);
      same(await unpack(`out-${format}`, writeAll(readAll(archive)), which), await scan(root, which));
    });
  }

  for (const format of ['gnu', 'oldgnu', 'pax']) {
    // Not `+4000000000`: GNU tar 1.34 takes that for 0.
    it(`users beyond 2^21 of --owner are read from ${format}`, async () => {
      const owner = ['--owner=:4000000000', '--group=:2097152'];
      const members = readAll(await pack(`owner-${format}`, `--format=${format}`, ...owner, 'v7'));
      const ids = new Set(
        members.map(({ entry }) => (entry.type === 'hardlink' ? '' : `${entry.uid}:${entry.gid}`)),
      );
      expect([...ids].filter(id => id !== '')).to.deep.equal(['4000000000:2097152']);
    });
  }

  it('its global headers are of all entries', async () => {
    const members = readAll(await pack('global', '--format=pax', '--pax-option=gid=77,comment=all', 'v7'));
    expect(new Set(members.map(({ entry }) => entry.gid))).to.deep.equal(new Set([77]));
  });

  it('its archives of an empty list, and with other blocking factors, end as they should', async () => {
    for (const factor of ['1', '20', '4000']) {
      expect(readAll(await pack(`empty-${factor}`, '-b', factor, '-T', '/dev/null'))).to.have.length(0);
      expect(readAll(await pack(`one-${factor}`, '-b', factor, 'v7/file'))).to.have.length(1);
    }
  });
});

describe('sparse files of GNU tar', () => {
  let scratch: Scratch;
  const name = `${'long/'.repeat(30)}sparse`;

  before(async () => {
    scratch = await Scratch.make();
    const path = join(scratch.path, name);
    mkdirSync(join(path, '..'), { recursive: true });
    const fd = openSync(path, 'w');
    for (let at = 0; at < 60; at += 1) writeSync(fd, randomBytes(4096), 0, 4096, at * 1_048_576 + 65_536);
    closeSync(fd);
    truncateSync(path, 100_000_000);
    writeFileSync(join(scratch.path, 'hole'), '');
    truncateSync(join(scratch.path, 'hole'), 50_000_000);
    writeFileSync(join(scratch.path, 'last'), 'after');
  });
  after(() => scratch.remove());

  for (const args of [
    ['--format=oldgnu'],
    ['--format=gnu'],
    ['--format=pax', '--sparse-version=0.0'],
    ['--format=pax', '--sparse-version=0.1'],
    ['--format=pax', '--sparse-version=1.0'],
  ]) {
    it(`are read: ${args.join(' ')}`, async () => {
      const file = join(scratch.path, 'archive.tar');
      await must('tar', '-C', scratch.path, '--sparse', ...args, '-cf', file, name, 'hole', 'last');
      const archive = readFileSync(file);
      expect(archive.length, 'size of the archive').to.be.below(1_000_000);
      const members = readAll(archive);
      expect(members.map(({ entry }) => entry.path.toString())).to.deep.equal([name, 'hole', 'last']);
      for (const { entry, data } of members) {
        expect(
          data.equals(readFileSync(join(scratch.path, entry.path.toString()))),
          entry.path.toString(),
        ).to.equal(true);
      }
    });
  }
});

function same(found: Tree, expected: Tree): void {
  expect([...found.keys()]).to.have.members([...expected.keys()]);
  for (const [path, line] of expected) expect(found.get(path), path).to.equal(line);
  expect(expected.size).to.be.above(10);
}
