import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Makes a small tree to copy from: files of several sizes, odd owners and modes, links. @returns its path */
export function makeSource(path: string): string {
  for (const directory of [path, join(path, 'a'), join(path, 'a/b'), join(path, 'empty')])
    mkdirSync(directory);
  for (let number = 0; number < 24; number += 1) {
    const file = join(path, number % 2 === 0 ? 'a' : 'a/b', `file-${number}`);
    writeFileSync(file, randomBytes(number * 2_500));
    chownSync(file, number * 100, number);
    chmodSync(file, number % 3 === 0 ? 0o600 : 0o4755);
  }
  linkSync(join(path, 'a/file-2'), join(path, 'hard'));
  symlinkSync('a/b', join(path, 'soft'));
  return path;
}
