import { checkEntry } from './check.ts';
import { Content } from './content.ts';
import { noBytes, noXattrs, type TarEntry, type TarType } from './entry.ts';
import type { Description, Extensions } from './extensions.ts';
import { type Header, readHeader, typeOf } from './header.ts';
import type { Input } from './input.ts';
import { malformed } from './malformed.ts';
import { checkMap, readOldMap, readPaxMap, type SparseFile, type SparseRecords } from './sparse.ts';

/**
 * Contiguous files (7) are files, as POSIX wants. GNU's S is a sparse file; its volume labels, multi-volume parts
 * and dumps (V, M, D, N) are no files of a tree, and other types have no meaning that we know: all are refused.
 */
const types = new Map<string, TarType>([
  ['0', 'file'],
  ['1', 'hardlink'],
  ['2', 'symlink'],
  ['3', 'character'],
  ['4', 'block'],
  ['5', 'directory'],
  ['6', 'fifo'],
  ['7', 'file'],
  ['S', 'file'],
]);

const slash = 0x2f;

/** Makes an entry of its header and of what was said before. @throws Malformed */
export function assemble(
  block: Buffer,
  extensions: Extensions,
  input: Input,
): { readonly entry: TarEntry; readonly content: Content } {
  const header = readHeader(block);
  const description = extensions.take();
  const { pax } = description;
  const stored = pax.size ?? header.size;
  if (stored < 0) throw malformed('its size is negative');
  const fullPath = pax.sparse?.name ?? pax.path ?? description.path ?? header.path;
  const path = withoutSlashes(fullPath);
  const type = typeIn(block, path.length < fullPath.length || isRoot(path), stored);
  const file = type === 'file' ? fileOf(block, pax.sparse, stored, input) : undefined;
  if (file === undefined && pax.sparse !== undefined) throw malformed('it is sparse and not a file');
  const entry = entryOf(path, type, file?.size ?? 0, header, description);
  checkEntry(entry);
  if (file !== undefined) return { entry, content: new Content(input, file.map, stored - file.mapBytes) };
  // POSIX lets a hard link of PAX carry content (`linkdata`), and many readers take what follows for the next header:
  // no two of them may read an archive differently. Elsewhere the size of a link means nothing.
  if (type === 'hardlink' && extensions.isPax && stored > 0)
    throw malformed('it is a hard link with content');
  return { entry, content: new Content(input, [], 0) };
}

function entryOf(
  path: Buffer,
  type: TarType,
  size: number,
  header: Header,
  { pax, linkPath }: Description,
): TarEntry {
  const isLink = type === 'hardlink' || type === 'symlink';
  return {
    path,
    type,
    size,
    mode: header.mode,
    uid: pax.uid ?? header.uid,
    gid: pax.gid ?? header.gid,
    mtime: pax.mtime ?? { seconds: header.mtime, nanoseconds: 0 },
    linkPath: isLink ? (pax.linkPath ?? linkPath ?? header.linkPath) : noBytes,
    device: header.device,
    xattrs: pax.xattrs ?? noXattrs,
  };
}

/** A file whose name ends with a slash is a directory of v7. */
function typeIn(block: Buffer, endsWithSlash: boolean, stored: number): TarType {
  const type = types.get(typeOf(block));
  if (type === undefined) throw malformed(`its type ${JSON.stringify(typeOf(block))} is not known`);
  if (type !== 'file' || !endsWithSlash) return type;
  if (stored > 0) throw malformed('its path ends with "/", and it has content');
  return 'directory';
}

function fileOf(block: Buffer, records: SparseRecords | undefined, stored: number, input: Input): SparseFile {
  const isOld = typeOf(block) === 'S';
  if (!isOld && records === undefined) return { size: stored, map: [0, stored], mapBytes: 0 };
  if (isOld && records !== undefined) throw malformed('it has two sparse maps');
  const file = records === undefined ? readOldMap(block, input) : readPaxMap(records, stored, input);
  checkMap(file, stored - file.mapBytes);
  return file;
}

function withoutSlashes(path: Buffer): Buffer {
  let end = path.length;
  while (end > 1 && path[end - 1] === slash) end -= 1;
  return end === path.length ? path : path.subarray(0, end);
}

function isRoot(path: Buffer): boolean {
  return path.length === 1 && path[0] === slash;
}
