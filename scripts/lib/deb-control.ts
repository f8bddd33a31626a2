import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from './paths.ts';

export const maintainer = 'The authors of varve <authors@varve.invalid>';

/** The libraries that the Node binary and the compiled packages are linked with, in the versions they ask for. */
const libraries = ['libc6 (>= 2.34)', 'libstdc++6 (>= 11)', 'libgcc-s1 (>= 3.4)'];
/** setpriv with --pdeathsig, cp with --reflink. */
const programs = ['util-linux (>= 2.33)', 'coreutils (>= 8.24)'];

const maintainerScripts = ['postinst', 'prerm', 'postrm'];
const executables = ['usr/bin/varve', 'usr/lib/varve/bin/node'];

/** Gives a package tree its modes, whatever our umask, and its control files (deb-control(5)). */
export async function sealTree(
  root: string,
  { version, architecture }: { readonly version: string; readonly architecture: string },
): Promise<void> {
  const paths = await readdir(root, { recursive: true, withFileTypes: true });
  const found = paths.map(entry => ({ path: join(entry.parentPath, entry.name), entry }));
  let bytes = 0;
  const sums: string[] = [];
  for (const { path, entry } of found.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const name = path.slice(root.length + 1);
    await chmod(path, entry.isDirectory() || executables.includes(name) ? 0o755 : 0o644);
    if (!entry.isFile()) continue;
    bytes += (await stat(path)).size;
    const sum = createHash('md5')
      .update(await readFile(path))
      .digest('hex');
    if (!name.startsWith('etc/')) sums.push(`${sum}  ${name}\n`);
  }
  const control = join(root, 'DEBIAN');
  await mkdir(control);
  for (const path of [root, control]) await chmod(path, 0o755);
  const put = async (name: string, text: string | Buffer, mode = 0o644) => {
    await writeFile(join(control, name), text);
    await chmod(join(control, name), mode);
  };
  await put('control', controlFile(version, architecture, Math.ceil(bytes / 1024)));
  await put('conffiles', '/etc/varve/config.yaml\n');
  await put('md5sums', sums.join(''));
  for (const name of maintainerScripts)
    await put(name, await readFile(join(repository, 'packaging/debian', name)), 0o755);
}

function controlFile(version: string, architecture: string, kibibytes: number): string {
  return `Package: varve
Version: ${version}
Architecture: ${architecture}
Maintainer: ${maintainer}
Installed-Size: ${kibibytes}
Depends: ${[...libraries, ...programs].join(', ')}
Recommends: e2fsprogs, xfsprogs, btrfs-progs, fuse-overlayfs
Suggests: docker.io
Section: admin
Priority: optional
Description: storage for container hosts
 varve is a volume plugin for Docker and other container engines. It honours
 every option or refuses it, looks into the mount tables of the kernel before
 it unmounts or removes anything, and survives any crash. It brings its own
 Node.js.
`;
}
