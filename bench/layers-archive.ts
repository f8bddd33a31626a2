/** What the layer benchmarks unpack: the same bytes in each run, in an archive that GNU tar writes. */
import { createCipheriv } from 'node:crypto';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '../scripts/lib/process.ts';

/** How many of a hundred entries are what, as in the root file system of a Debian with its usual programs. */
const ofHundred = { directories: 9, symbolicLinks: 6, hardLinks: 1, files: 84 };
const filesInDirectory = 10;
const minutes = 60_000;

/**
 * Makes `NAME.tar` in a directory.
 * @param entries about how many, with directories and links @param bytes of all files together
 * @returns its path
 */
export async function makeArchive(
  directory: string,
  name: string,
  { entries, bytes }: { readonly entries: number; readonly bytes: number },
): Promise<string> {
  const root = join(directory, `${name}.tree`);
  const files = Math.round((entries * ofHundred.files) / 100);
  mkdirSync(root);
  const sizes = fileSizes(files, bytes);
  const content = randomBytes(Math.max(...sizes) + files);
  for (const [number, size] of sizes.entries()) {
    writeFileSync(filePath(root, number), content.subarray(number, number + size));
  }
  const share = (percent: number) => Math.round((entries * percent) / 100);
  for (let number = 0; number < share(ofHundred.symbolicLinks); number += 1) {
    symlinkSync(`file-${number}`, `${filePath(root, number)}.link`);
  }
  for (let number = 0; number < share(ofHundred.hardLinks); number += 1) {
    linkSync(filePath(root, files - 1 - number), `${filePath(root, files - 1 - number)}.again`);
  }
  const archive = join(directory, `${name}.tar`);
  const always = ['--sort=name', '--format=pax', '--mtime=@1000000000.5', '--numeric-owner'];
  // Paths and times of access of this very tree would be in the headers otherwise.
  const same = ['--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f'];
  await must('tar', ['--create', ...always, ...same, `--file=${archive}`, `--directory=${root}`, '.'], {
    timeoutMs: 5 * minutes,
  });
  await rm(root, { recursive: true });
  return archive;
}

/** Three levels deep, as in /usr/share. It makes the directories at the first file of each. */
function filePath(root: string, number: number): string {
  const place = Math.floor(number / filesInDirectory);
  const directory = join(root, `part-${Math.floor(place / 100)}`, `directory-${place}`);
  if (number % filesInDirectory === 0) mkdirSync(directory, { recursive: true });
  return join(directory, `file-${number}`);
}

/** Many small files and few large ones: each is 64 bytes to 1 MiB, in a fixed order. */
function fileSizes(count: number, bytes: number): readonly number[] {
  const weights = Array.from({ length: count }, (_, number) => 2 ** (((number * 7919) % 1401) / 100));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map(weight => Math.max(64, Math.round((weight / total) * bytes)));
}

/** The same for each run, and nothing that compresses. */
function randomBytes(length: number): Buffer {
  return createCipheriv('aes-256-ctr', Buffer.alloc(32), Buffer.alloc(16)).update(Buffer.alloc(length));
}
