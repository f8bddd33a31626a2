import { execFileSync } from 'node:child_process';
import { appendFileSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { workerScript } from '../../../scripts/lib/paths.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { InvalidArgument, VarveError } from '../../../src/errors/errors.ts';
import { rejection } from '../../support/rejection.ts';
import { directory, type Entry, file, hardlink, Layer, stream, symlink, tarOf } from './apply-world.ts';

/** Everything of a tree that a write, a chmod or a link would change; the change time above all. */
function sentinel(path: string): readonly string[] {
  const { mode, uid, gid, size, nlink, mtimeNs, ctimeNs } = lstatSync(path, { bigint: true });
  const below = (mode & 0o170000n) === 0o040000n ? readdirSync(path) : [];
  const line = [path, mode, uid, gid, size, nlink, mtimeNs, ctimeNs].join(' ');
  return [line, ...below.flatMap(name => sentinel(join(path, name)))];
}

/** One ustar header with fields as they are. */
function rawHeader(fields: { name?: string; size?: Buffer | string; type?: string; link?: string }): Buffer {
  const block = Buffer.alloc(512);
  block.write(fields.name ?? 'f', 0, 'latin1');
  block.write('0000644\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  Buffer.from(fields.size ?? '00000000000\0').copy(block, 124);
  block.write('00000000000\0', 136);
  block.write('        ', 148);
  block.write(fields.type ?? '0', 156);
  block.write(fields.link ?? '', 157, 'latin1');
  block.write('ustar\0' + '00', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

const end = Buffer.alloc(1024);
const up = '../'.repeat(20);

const refused = async (applied: Promise<unknown>) => {
  const error = await rejection(applied);
  expect(error, error.stack ?? '').to.be.instanceOf(InvalidArgument);
  return error;
};

describe('hostile archives', () => {
  let archiver: WorkerArchiver;
  let layer: Layer;
  let safe: readonly string[];

  before(() => {
    archiver = new WorkerArchiver(workerScript);
  });

  after(() => archiver.close());

  for (const form of ['whole', 'delta'] as const) {
    describe(`in the form ${form}`, () => {
      let secret: string;

      beforeEach(() => {
        layer = new Layer(archiver, form);
        mkdirSync(layer.path('outside/directory'), { mode: 0o700 });
        secret = layer.path('outside/secret');
        writeFileSync(secret, 'secret', { mode: 0o600 });
        writeFileSync(layer.path('outside/directory/f'), 'f');
        safe = sentinel(layer.path('outside'));
      });

      afterEach(() => {
        expect(sentinel(layer.path('outside'))).to.deep.equal(safe);
        expect(
          readdirSync(layer.root)
            .filter(name => !/^(new-)?digests$|\.tar$/.test(name))
            .sort(),
        ).to.deep.equal(['below', 'fs', 'merged', 'outside', 'work']);
        layer.dispose();
      });

      it('a path that leads out is refused, in any kind of entry', async () => {
        for (const path of [
          '..',
          '../outside/new',
          'a/../../outside/new',
          '/../outside/new',
          `${up}tmp/x`,
          './..',
        ]) {
          await refused(layer.apply(file(path, 'x')));
          await refused(layer.apply(directory(path, { mode: 0o777 })));
          await refused(layer.apply(symlink(path, 'x')));
          await refused(layer.apply(file('a'), hardlink(path, 'a')));
        }
      });

      it('an absolute path, and links that lead out, stay inside', async () => {
        const outside = layer.path('outside');
        await layer.beneath(symlink('absolute', outside), symlink('relative', `${up}${outside}`));
        await layer.apply(
          file(`${outside}/one`),
          file('absolute/two'),
          file('relative/three'),
          symlink('own', outside),
          file('own/directory/f', 'x'),
        );
        const inside = outside.slice(1);
        expect(layer.names()).to.include.members([
          `${inside}/one`,
          `${inside}/two`,
          `${inside}/three`,
          `${inside}/directory/f`,
        ]);
      });

      it('what stands at a path is never followed, written to or changed', async () => {
        await layer.beneath(
          symlink('f', secret),
          symlink('d', layer.path('outside/directory')),
          symlink('e', secret),
        );
        await layer.apply(
          file('f', 'x', { mode: 0o777, uid: 5 }),
          directory('d', { mode: 0o777, uid: 5 }),
          file('d/f', 'x'),
          symlink('e', 'x', { uid: 5 }),
          symlink('s', secret, { uid: 5, xattrs: { 'trusted.a': 'v' } }),
          hardlink('h', 's'),
          file('h', 'x', { mode: 0o777 }),
        );
        expect(layer.describe('d').mode).to.equal('40777');
        expect(layer.describe('s').target).to.equal(secret);
      });

      it('a directory that becomes a link in the middle of an archive leads nowhere else', async () => {
        const outside = layer.path('outside/directory');
        await layer.apply(
          directory('d'),
          file('d/f', '1'),
          symlink('d', outside),
          file('d/f', '2'),
          file('d/.wh..wh..opq'),
          file('d/.wh.f'),
        );
        expect(layer.read(`${outside.slice(1)}/f`)).to.equal('2');
        await layer.apply(directory('d'), file('d/f', '3'));
        expect(layer.read('d/f')).to.equal('3');
      });

      it('a hard link that leads out is refused', async () => {
        await layer.beneath(
          symlink('l', layer.path('outside')),
          symlink('m', `${up}${layer.path('outside')}`),
        );
        for (const target of ['../outside/secret', secret, `${up}${secret}`, 'l/secret', 'm/secret', '/']) {
          await refused(layer.apply(hardlink('x', target)));
        }
      });

      it('a whiteout that names no file, or the directory above, is refused', async () => {
        await layer.beneath(directory('d'), file('d/f'));
        for (const path of [
          '.wh.',
          '.wh..',
          '.wh...',
          'd/.wh.',
          'd/.wh..',
          'd/.wh...',
          '.wh.d/f',
          'd/.wh.x/y',
          '../.wh.outside',
          'd/../../.wh.fs',
        ]) {
          await refused(layer.apply(file(path)));
        }
        expect(layer.names()).to.include.members(['d', 'd/f']);
      });

      it('whiteouts follow no link out', async () => {
        await layer.beneath(
          symlink('l', layer.path('outside')),
          symlink('m', `${up}${layer.path('outside')}`),
        );
        await layer.apply(
          file('l/.wh.secret'),
          file('m/.wh.directory'),
          file('l/.wh..wh..opq'),
          file('.wh.m'),
        );
        expect(layer.names()).to.deep.equal(['l']);
      });

      it('a device that would be a whiteout is refused', async () => {
        await layer.beneath(file('f'));
        const error = await refused(
          layer.apply({ path: 'f', type: 'character', device: { major: 0, minor: 0 } }),
        );
        expect(error.message).to.include('0/0');
        expect(layer.names()).to.deep.equal(['f']);
      });

      it('attributes of the union are the users, and hide and redirect nothing', async () => {
        await layer.beneath(directory('d'), file('d/f', 'x'));
        const names = [
          'opaque',
          'redirect',
          'metacopy',
          'origin',
          'whiteout',
          'impure',
          'upper',
          'overlay.opaque',
        ];
        const xattrs = Object.fromEntries(names.map(name => [`trusted.overlay.${name}`, 'y']));
        await layer.apply(directory('d', { xattrs }), file('f', 'content', { xattrs }));
        expect(layer.names()).to.deep.equal(['d', 'd/f', 'f']);
        expect(layer.read('f')).to.equal('content');
      });

      it('links that lead in a circle are refused, and so is a file as a directory', async () => {
        await refused(layer.apply(symlink('a', 'b'), symlink('b', 'a'), file('a/f')));
        await refused(layer.apply(symlink('c', `${'c/../'.repeat(800)}c`), file('c/f')));
        const error = await refused(layer.apply(file('f'), file('f/g')));
        expect(error.message).to.include('not a directory');
      });

      /** Links of which each leads 1000 directories deeper than the one before. */
      const deeper = (count: number) =>
        Array.from({ length: count }, (_, index) =>
          symlink(`s${index}`, `${index === 0 ? '' : `s${index - 1}/`}${'a/'.repeat(999)}a`),
        );

      it('a tree 1000 directories deep is made, and replaced', async () => {
        const steps = deeper(1);
        await layer.apply(...steps, file('s0/f', 'deep'));
        await layer.apply(...steps.map(({ path }) => file(`.wh.${path}`)), file('a', 'flat'));
        expect(layer.own().filter(name => name.startsWith('a'))).to.deep.equal(['a']);
        expect(layer.read('a')).to.equal('flat');
      });

      it('a tree 10 000 directories deep, to which no path can lead, is refused', async () => {
        const error = await refused(layer.apply(...deeper(10), file('s9/f', 'deep')));
        expect(error.message).to.include('less deep');
      });

      it('headers that lie are refused', async () => {
        const huge = Buffer.alloc(12, 0xff);
        huge[0] = 0x80;
        for (const header of [
          rawHeader({ name: '' }),
          rawHeader({ size: huge }),
          rawHeader({ size: '77777777777\0' }),
          rawHeader({ size: '99999999999\0' }),
          rawHeader({ size: '-0000000001\0' }),
          rawHeader({ type: '1', link: '' }),
          rawHeader({ type: '2', link: '' }),
          rawHeader({ type: 'L', size: '77777777777\0' }),
          rawHeader({ type: 'x', size: '77777777777\0' }),
        ]) {
          await refused(layer.applyArchive(stream(header, end)));
        }
      });

      it('an archive that is cut off at any block is refused', async () => {
        const tar = tarOf([
          directory('d'),
          file('d/f', 'x'.repeat(1500), { xattrs: { 'user.a': 'v' } }),
          symlink('l', 'd'),
          file('l/g', 'y'),
        ]);
        // One block of zeros at the very end is an end, as for GNU tar.
        for (let length = 0; length <= tar.length - end.length; length += 512) {
          await refused(layer.applyArchive(stream(tar.subarray(0, length))));
        }
        await layer.applyArchive(stream(tar));
      });

      it('whatever is flipped in an archive, it fails as it should or stays inside', async () => {
        const tar = tarOf([
          directory('d', { xattrs: { 'user.a': 'v' } }),
          symlink('d/l', `${up}${layer.path('outside')}`),
          file('d/l/f', 'x'.repeat(600)),
          hardlink('h', 'd/l'),
          file('.wh.d'),
          { path: 'c', type: 'character', device: { major: 1, minor: 3 } },
        ]);
        for (let round = 0; round < 150; round += 1) {
          const bytes = Buffer.from(tar);
          const at = (round * 7919) % bytes.length;
          bytes[at] = (bytes[at] ?? 0) ^ (1 << (round % 8));
          fixChecksums(bytes);
          await layer.applyArchive(stream(bytes)).catch(error => expect(error).to.be.instanceOf(VarveError));
        }
      });
    });
  }

  describe('memory', () => {
    const count = 200_000;

    beforeEach(() => {
      layer = new Layer(archiver, 'whole');
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1g,nr_inodes=1m', 'none', layer.path('fs')]);
    });

    afterEach(() => {
      layer.close();
      execFileSync('umount', [layer.path('fs')]);
      layer.dispose();
    });

    /** Many entries with long names, in many directories. */
    function* many(): Generator<Uint8Array> {
      const name = 'n'.repeat(150);
      for (let at = 0; at < count; at += 1000) {
        const entries: Entry[] = Array.from({ length: 1000 }, (_, index) =>
          symlink(`${at}/${name}${at + index}`, 'x'),
        );
        yield tarOf(entries).subarray(0, -end.length);
      }
      yield end;
    }

    for (const [title, beneath, most] of [
      ['an empty layer needs nothing for each entry', [], 40],
      ['a layer that held something needs one text for each path', [file('f')], 250],
    ] as const) {
      it(`${title}: at most ${most} MB for ${count} entries`, async function () {
        this.timeout(300_000);
        await layer.beneath(...beneath);
        await layer.apply(file('warm'));
        if (beneath.length === 0) execFileSync('rm', [layer.path('fs/warm')]);
        const path = layer.path('many.tar');
        for (const bytes of many()) appendFileSync(path, bytes);
        const start = process.memoryUsage.rss();
        let peak = start;
        const onProgress = () => {
          peak = Math.max(peak, process.memoryUsage.rss());
        };
        const { entries } = await layer.applyArchive({ path }, { onProgress });
        onProgress();
        expect(entries).to.equal(count);
        expect((peak - start) / 1e6).to.be.lessThan(most);
      });
    }
  });
});

/** Of every block that looks like a header. */
function fixChecksums(bytes: Buffer): void {
  for (let at = 0; at < bytes.length; at += 512) {
    const block = bytes.subarray(at, at + 512);
    if (block.toString('latin1', 257, 262) !== 'ustar') continue;
    block.fill(0x20, 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  }
}
