import { InvalidArgument } from '../../../errors/errors.ts';

/** Paths within a layer are latin1 text here, which keeps every byte; `''` is the top, nothing begins with a slash. */
export function bytesOfPath(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}

/** For a message. */
export function shownText(path: string): string {
  return JSON.stringify(bytesOfPath(path).toString());
}

export function join(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/**
 * The path of an entry without what says nothing; a leading slash means the top, as every engine has it.
 * @throws InvalidArgument when it leads out of the layer
 */
export function cleanPath(bytes: Buffer): string {
  const text = bytes.toString('latin1');
  const path = text.startsWith('./') ? text.slice(2) : text;
  // Most paths are clean: no component is empty, `.` or `..`.
  if (!/(^|\/)\.{0,2}(\/|$)/.test(path)) return path;
  const clean: string[] = [];
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (name !== '..') clean.push(name);
    else if (clean.pop() === undefined) {
      throw new InvalidArgument(
        `the path ${shownText(path)} in the archive leads out of the layer; do not use it`,
      );
    }
  }
  return clean.join('/');
}

/** What an entry's name says, by the OCI image spec (layer.md, "Whiteouts"). */
export type Meaning =
  | { readonly type: 'entry' }
  | { readonly type: 'opaque' }
  | { readonly type: 'whiteout'; readonly name: string }
  /** The bookkeeping of AUFS, `.wh..wh.*`, which no engine unpacks. */
  | { readonly type: 'nothing' };

const prefix = '.wh.';
const [entry, opaque, nothing] = [{ type: 'entry' }, { type: 'opaque' }, { type: 'nothing' }] as const;

/** @throws InvalidArgument for a name that hides the directory itself, or one above, or that nobody could export */
export function meaningOf(path: string): Meaning {
  if (!path.includes(prefix)) return entry;
  const names = path.split('/');
  const last = names.pop() ?? '';
  if (names.some(name => name.startsWith(`${prefix}${prefix}`))) return nothing;
  if (names.some(name => name.startsWith(prefix))) {
    throw new InvalidArgument(
      `the archive has a directory in ${shownText(path)} that begins with ".wh."; rename it`,
    );
  }
  if (!last.startsWith(prefix)) return entry;
  if (last === '.wh..wh..opq') return opaque;
  if (last.startsWith('.wh..wh.')) return nothing;
  const name = last.slice(prefix.length);
  if (name === '' || name === '.' || name === '..') {
    throw new InvalidArgument(`the whiteout ${shownText(path)} in the archive names no file; do not use it`);
  }
  return { type: 'whiteout', name };
}
