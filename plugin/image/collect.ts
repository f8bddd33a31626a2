// Runs in the build of the image, with the Node and the programs of its base and nothing else.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** What varve starts, or will for the kinds of pool to come. All else it asks of the kernel itself. */
const programs = [
  // Copies of a tree, which end with the daemon.
  ...['cp', 'setpriv'],
  // Volumes in image files: made, looked over before they are used, and grown.
  ...['mkfs.ext4', 'e2fsck', 'resize2fs', 'mkfs.xfs', 'xfs_growfs'],
  // Pools on a btrfs of their own.
  ...['mkfs.btrfs', 'btrfs'],
];

const [target = '/collected'] = process.argv.slice(2);
const varve = '/usr/lib/varve';
const collected = new Set<string>();

/** Puts what is at a path to the same path below the target, in the directory that it really is in. */
function collect(path: string): void {
  const real = join(realpathSync(dirname(path)), basename(path));
  if (collected.has(real)) return;
  collected.add(real);
  cpSync(real, join(target, real), { dereference: true, recursive: true });
}

/** The shared libraries that a program or library loads, with the loader itself (ldd(1)). */
function libraries(path: string): readonly string[] {
  return output('ldd', path)
    .split('\n')
    .flatMap(line => /(?:=> |^\s)(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

function collectPrograms(): void {
  const found = programs.map(program => output('which', program).trim());
  const modules = globSync(`${varve}/node_modules/**/*.node`);
  const files = [process.execPath, ...found, ...modules];
  for (const path of [...found, ...files.flatMap(libraries)]) collect(path);
  cpSync(process.execPath, join(target, 'usr/bin/node'));
  collect(varve);
}

/** Their licences: of each Debian package that a file is from, and of Node where its image or package has them. */
function collectLicenses(): void {
  // Some are registered with the path that they had before /bin, /lib and /sbin became links.
  const names = [...collected].flatMap(path => [path, path.replace(/^\/usr/, '')]);
  const { stdout } = spawnSync('dpkg-query', ['--search', ...names], { encoding: 'utf8' });
  const owners = stdout.split('\n').flatMap(line => /^([^:,\s]+)/.exec(line)?.[1] ?? []);
  for (const owner of new Set(owners)) collect(`/usr/share/doc/${owner}/copyright`);
  collect('/usr/share/common-licenses');
  const ofNode = [`${process.execPath}.LICENSE`, join(dirname(process.execPath), '../LICENSE')];
  const found = ofNode.find(existsSync);
  if (found === undefined) throw new Error(`there are no licences of Node at ${ofNode.join(' or ')}`);
  cpSync(found, join(target, 'usr/share/doc/node/LICENSE'));
}

function layOut(): void {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    if (existsSync(`/${name}`)) symlinkSync(readlinkSync(`/${name}`), join(target, name));
  }
  for (const name of ['dev', 'etc', 'mnt', 'proc', 'run', 'sys', 'tmp', 'var/lib']) {
    mkdirSync(join(target, name), { recursive: true });
  }
  chmodSync(join(target, 'tmp'), 0o1777);
  writeFileSync(join(target, 'etc/passwd'), 'root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n');
  writeFileSync(join(target, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  collect('/etc/mke2fs.conf');
}

/** Whoever pushes the plugin reads its files, and need not be root; what the daemon wrote here only root can read. */
function makeReadable(): void {
  for (const entry of readdirSync(target, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name);
    const { mode } = statSync(path);
    const forExecution = entry.isDirectory() || (mode & 0o111) !== 0 ? 0o111 : 0;
    chmodSync(path, (mode & 0o7777) | 0o444 | forExecution);
  }
}

function output(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')} failed: ${stderr}`);
}

mkdirSync(target, { recursive: true });
collectPrograms();
collectLicenses();
layOut();
makeReadable();
