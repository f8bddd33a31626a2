import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Everything below a directory as lines that change when anything does, except below the entries named. */
export function snapshotTree(directory: string, except: readonly string[] = []): readonly string[] {
  const names = readdirSync(directory).filter(name => !except.includes(name));
  return names.sort().flatMap(name => {
    const path = join(directory, name);
    const { mode, uid, gid, mtimeMs } = lstatSync(path);
    const line = `${path} ${mode.toString(8)} ${uid}:${gid}`;
    if ((mode & 0o170000) === 0o040000) return [`${line} ${mtimeMs}`, ...snapshotTree(path)];
    return [`${line} ${(mode & 0o170000) === 0o100000 ? readFileSync(path, 'base64') : ''}`];
  });
}
