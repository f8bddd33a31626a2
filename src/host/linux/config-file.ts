import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';

/** The text of a configuration file of the host, or undefined when there is none. */
export async function readConfigFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw fromNodeError(error, `read ${path}`);
  }
}

/** A name beside a file that nothing has yet. */
export function backupOf(path: string): string {
  const names = [`${path}.before-varve`];
  for (let count = 2; existsSync(names.at(-1) as string); count++)
    names.push(`${path}.before-varve-${count}`);
  return names.at(-1) as string;
}

/**
 * Puts a whole file in place, with the mode of the one before; a link goes on to lead to it.
 * @param backup where a copy of the one before is kept
 */
export async function writeConfigFile(path: string, text: string, backup: string | null): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    if (backup !== null) await copyFile(path, backup);
    const target = existsSync(path) ? await realpath(path) : path;
    const mode = existsSync(target) ? (await stat(target)).mode & 0o7777 : 0o644;
    await replace(target, text, mode);
  } catch (error) {
    throw fromNodeError(error, `write ${path}`);
  }
}

async function replace(target: string, text: string, mode: number): Promise<void> {
  const draft = `${target}.varve-${process.pid}`;
  try {
    const file = await open(draft, 'wx', mode);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, target);
  } finally {
    await rm(draft, { force: true });
  }
}
