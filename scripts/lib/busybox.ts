import { createReadStream } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Internal } from '../../src/errors/errors.ts';
import { ask } from './http.ts';
import { stateDirectory } from './paths.ts';
import { must } from './process.ts';

/** Where Debian's busybox-static puts its one program. */
const program = '/bin/busybox';

/** Gives an engine an image `busybox:latest` from Debian's busybox-static. @returns whether it had none */
export async function ensureBusyboxImage(socket: string): Promise<boolean> {
  const known = await ask(socket, 'GET', '/images/busybox:latest/json');
  if (known.status === 200) return false;
  const query = new URLSearchParams({ fromSrc: '-', repo: 'busybox', tag: 'latest', changes: 'CMD ["sh"]' });
  const body = createReadStream(await busyboxTar());
  const answer = await ask(socket, 'POST', `/images/create?${query}`, { body, timeoutMs: 60_000 });
  if (answer.status !== 200 || answer.body.includes('"error"')) {
    throw new Internal(`the engine did not take the busybox image: ${answer.body.trim()}`);
  }
  return true;
}

/** The root file system of the image as a tar, made at first need. @returns its path */
export async function busyboxTar(): Promise<string> {
  const { size, mtimeMs } = await stat(program);
  const cache = join(stateDirectory, 'cache');
  const tar = join(cache, `busybox-${size}-${Math.trunc(mtimeMs)}.tar`);
  if (
    await stat(tar).then(
      () => true,
      () => false,
    )
  )
    return tar;
  const directory = await mkdtemp(join(tmpdir(), 'varve-busybox-'));
  try {
    await layOut(join(directory, 'root'));
    const made = join(directory, 'busybox.tar');
    await must('tar', [
      '--create',
      '--file',
      made,
      '--directory',
      join(directory, 'root'),
      '--owner=0',
      '--group=0',
      '.',
    ]);
    await mkdir(cache, { recursive: true });
    await copyFile(made, `${tar}.${process.pid}`);
    await rename(`${tar}.${process.pid}`, tar);
    return tar;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function layOut(root: string): Promise<void> {
  for (const name of ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'sys', 'tmp', 'usr/bin', 'var']) {
    await mkdir(join(root, name), { recursive: true });
  }
  await chmod(join(root, 'tmp'), 0o1777);
  await copyFile(program, join(root, 'bin/busybox'));
  const { stdout } = await must(program, ['--list']);
  for (const applet of stdout.trim().split('\n')) {
    if (applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
  }
  await writeFile(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
  );
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nnobody:x:65534:\n');
}
