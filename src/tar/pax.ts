/** PAX records: POSIX.1-2024, pax, "pax Extended Header": `LENGTH KEYWORD=VALUE\n`, the values bytes. */
import { limits, type TarTime } from './entry.ts';
import { malformed } from './malformed.ts';
import { parseDecimal, parseTime } from './numbers.ts';
import { addNumber, SparseRecords } from './sparse.ts';

/** What extended headers say of an entry; undefined is what they leave to its header. */
export class PaxAttributes {
  path: Buffer | undefined;
  linkPath: Buffer | undefined;
  size: number | undefined;
  uid: number | undefined;
  gid: number | undefined;
  mtime: TarTime | undefined;
  xattrs: Map<string, Buffer> | undefined;
  sparse: SparseRecords | undefined;

  /** For the entries after a global header, which says of none that it is sparse. */
  copy(): PaxAttributes {
    const copy = new PaxAttributes();
    copy.path = this.path;
    copy.linkPath = this.linkPath;
    copy.size = this.size;
    copy.uid = this.uid;
    copy.gid = this.gid;
    copy.mtime = this.mtime;
    if (this.xattrs !== undefined) copy.xattrs = new Map(this.xattrs);
    return copy;
  }
}

type Setter = (attributes: PaxAttributes, value: Buffer) => void;

/**
 * An empty value takes back what was said before (POSIX), an empty extended attribute is one; keywords that are not
 * here are ignored, as POSIX wants.
 */
const setters = new Map<string, Setter>([
  ['path', setter('path', textOf)],
  ['linkpath', setter('linkPath', textOf)],
  ['size', setter('size', value => numberOf(value, 'size'))],
  ['uid', setter('uid', value => numberOf(value, 'user id'))],
  ['gid', setter('gid', value => numberOf(value, 'group id'))],
  ['mtime', setter('mtime', value => (value.length === 0 ? undefined : parseTime(value)))],
  ['GNU.sparse.major', sparse('major', value => parseDecimal(value, 'sparse form'))],
  ['GNU.sparse.minor', sparse('minor', value => parseDecimal(value, 'sparse form'))],
  ['GNU.sparse.name', sparse('name', textOf)],
  ['GNU.sparse.size', sparse('size', value => parseDecimal(value, 'sparse size'))],
  ['GNU.sparse.realsize', sparse('size', value => parseDecimal(value, 'sparse size'))],
  ['GNU.sparse.numblocks', sparse('count', value => parseDecimal(value, 'sparse map'))],
  ['GNU.sparse.offset', (attributes, value) => addPart(sparseOf(attributes), value, 0)],
  ['GNU.sparse.numbytes', (attributes, value) => addPart(sparseOf(attributes), value, 1)],
  ['GNU.sparse.map', (attributes, value) => addMap(sparseOf(attributes), value)],
]);

function setter<K extends keyof PaxAttributes>(key: K, parse: (value: Buffer) => PaxAttributes[K]): Setter {
  return (attributes, value) => {
    attributes[key] = parse(value);
  };
}

function sparse<K extends keyof SparseRecords>(key: K, parse: (value: Buffer) => SparseRecords[K]): Setter {
  return (attributes, value) => {
    sparseOf(attributes)[key] = parse(value);
  };
}

function sparseOf(attributes: PaxAttributes): SparseRecords {
  attributes.sparse ??= new SparseRecords();
  return attributes.sparse;
}

/** Offsets and lengths come by turns. */
function addPart({ map }: SparseRecords, value: Buffer, place: 0 | 1): void {
  if (map.length % 2 !== place) throw malformed('its sparse map is incomplete');
  addNumber(map, parseDecimal(value, 'sparse map'));
}

function addMap({ map }: SparseRecords, value: Buffer): void {
  if (map.length > 0) throw malformed('it has two sparse maps');
  for (let start = 0; start < value.length; ) {
    const comma = value.indexOf(0x2c, start);
    const end = comma === -1 ? value.length : comma;
    addNumber(map, parseDecimal(value, 'sparse map', start, end));
    start = end + 1;
  }
}

function textOf(value: Buffer): Buffer | undefined {
  if (value.length > limits.path + 1) throw malformed(`it has a path of more than ${limits.path} bytes`);
  return value.length === 0 ? undefined : Buffer.from(value);
}

function numberOf(value: Buffer, what: string): number | undefined {
  return value.length === 0 ? undefined : parseDecimal(value, what);
}

/** Reads an extended header over what a global one said; nothing of `body` is kept. @throws Malformed */
export function parsePax(body: Buffer, inherited: PaxAttributes): PaxAttributes {
  const attributes = inherited.copy();
  for (let start = 0; start < body.length; ) {
    const separator = body.indexOf(0x20, start);
    // More digits than a header has bytes.
    if (separator === -1 || separator - start > 10) throw malformed('a PAX record of it has no length');
    const end = start + parseDecimal(body, 'PAX record length', start, separator);
    const equals = body.indexOf(0x3d, separator);
    if (equals === -1 || equals >= end || end > body.length || body[end - 1] !== 0x0a) {
      throw malformed('a PAX record of it is damaged');
    }
    const keyword = body.toString('latin1', separator + 1, equals);
    set(attributes, keyword, body.subarray(equals + 1, end - 1));
    start = end;
  }
  return attributes;
}

function set(attributes: PaxAttributes, keyword: string, value: Buffer): void {
  const known = setters.get(keyword);
  if (known !== undefined) known(attributes, value);
  else if (keyword.startsWith(raw)) {
    setXattr(attributes, keyword.slice(raw.length).replace(/%(25|3D)/g, unescaped), Buffer.from(value));
  } else if (keyword.startsWith(encoded)) {
    setXattr(
      attributes,
      keyword.slice(encoded.length).replace(/%([0-9A-Fa-f]{2})/g, unescaped),
      decoded(value),
    );
  }
}

/** As star, GNU tar and Go write them; GNU tar has `%` and `=` of the name as `%25` and `%3D`. */
const raw = 'SCHILY.xattr.';
/** As libarchive writes them: the name percent-encoded, the value in base64. */
const encoded = 'LIBARCHIVE.xattr.';

function unescaped(_: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 16));
}

function decoded(value: Buffer): Buffer {
  const text = value.toString('latin1');
  const isBase64 = /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.replace(/=+$/, '').length % 4 !== 1;
  if (!isBase64) throw malformed('an extended attribute of it is not base64');
  return Buffer.from(text, 'base64');
}

function setXattr(attributes: PaxAttributes, name: string, value: Buffer): void {
  attributes.xattrs ??= new Map();
  attributes.xattrs.set(name, value);
}

/** One record; it counts the digits of its own length. */
export function formatRecord(keyword: string, value: Buffer | string): Buffer {
  const rest = keyword.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length += 1;
  const text = `${length} ${keyword}=`;
  if (typeof value === 'string') return Buffer.from(`${text}${value}\n`, 'latin1');
  return Buffer.concat([Buffer.from(text, 'latin1'), value, Buffer.from('\n')]);
}

/** The keyword of an extended attribute. */
export function xattrKeyword(name: string): string {
  return raw + name.replaceAll('%', '%25').replaceAll('=', '%3D');
}
