import { noBytes, noDevice, noXattrs, type TarEntry } from '../../src/tar/entry.ts';
import { TarWriter } from '../../src/tar/writer.ts';

/** An entry of an archive; what is not said has a usual value. Paths and targets are latin1 text. */
export type Entry = Partial<Omit<TarEntry, 'path' | 'linkPath' | 'xattrs'>> & {
  readonly path: string;
  readonly link?: string;
  readonly content?: string | Buffer;
  readonly xattrs?: Readonly<Record<string, string>>;
};

export const file = (path: string, content: string | Buffer = '', more: Partial<Entry> = {}): Entry => ({
  ...more,
  path,
  type: 'file',
  content,
});
export const directory = (path: string, more: Partial<Entry> = {}): Entry => ({
  mode: 0o755,
  ...more,
  path,
  type: 'directory',
});
export const symlink = (path: string, link: string, more: Partial<Entry> = {}): Entry => ({
  ...more,
  path,
  link,
  type: 'symlink',
});
export const hardlink = (path: string, link: string): Entry => ({ path, link, type: 'hardlink' });

export function tarOf(entries: readonly Entry[]): Buffer {
  const chunks: Buffer[] = [];
  const writer = new TarWriter({ write: bytes => void chunks.push(Buffer.from(bytes)) });
  for (const { path, link, content, xattrs, ...entry } of entries) {
    const data = Buffer.from(content ?? '');
    writer.entry({
      ...{
        type: 'file',
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: { seconds: 1_000_000_000, nanoseconds: 5 },
        device: noDevice,
      },
      ...entry,
      path: Buffer.from(path, 'latin1'),
      linkPath: link === undefined ? noBytes : Buffer.from(link, 'latin1'),
      size: data.length,
      xattrs:
        xattrs === undefined
          ? noXattrs
          : new Map(Object.entries(xattrs).map(([name, value]) => [name, Buffer.from(value, 'latin1')])),
    });
    if (data.length > 0) writer.content(data);
  }
  writer.finish();
  return Buffer.concat(chunks);
}
