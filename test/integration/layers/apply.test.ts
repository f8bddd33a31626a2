import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { crc32, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { workerScript } from '../../../scripts/lib/paths.ts';
import { readDigests } from '../../../src/drivers/layers/archive/digests.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { Aborted, Exhausted, InvalidArgument, NotFound, Unimplemented } from '../../../src/errors/errors.ts';
import { rejection } from '../../support/rejection.ts';
import { directory, file, hardlink, Layer, stream, symlink, tarOf } from './apply-world.ts';

const time = { seconds: 1_234_567_890, nanoseconds: 987_654_321 };
const early = { seconds: -2, nanoseconds: 250_000_000 };
const nanoseconds = ({ seconds, nanoseconds: rest }: typeof time) =>
  BigInt(seconds) * 1_000_000_000n + BigInt(rest);
const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

describe('applying an archive', () => {
  let archiver: WorkerArchiver;
  let layer: Layer;

  before(() => {
    archiver = new WorkerArchiver(workerScript);
  });

  after(() => archiver.close());

  for (const form of ['whole', 'delta'] as const) {
    describe(`in the form ${form}`, () => {
      beforeEach(() => {
        layer = new Layer(archiver, form);
      });

      afterEach(() => layer.dispose());

      it('makes each type of file, with owner, mode, time and attributes', async () => {
        const more = { uid: 7, gid: 4_000_000_000, mtime: time, mode: 0o640 };
        const capability = '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0';
        const xattrs = { 'user.a\xff': '\0\xff\x80', 'security.capability': capability };
        const { bytes, entries } = await layer.apply(
          directory('d', { ...more, mtime: early, xattrs: { 'user.d': 'v' } }),
          file('d/f\xff', 'content', { ...more, mode: 0o6755, xattrs }),
          symlink('d/l', 'nowhere\xfe', { ...more, xattrs: { 'trusted.l': 'v' } }),
          { path: 'd/c', type: 'character', device: { major: 5, minor: 700_000 }, ...more },
          { path: 'd/b', type: 'block', device: { major: 7, minor: 300 }, ...more },
          { path: 'd/p', type: 'fifo', ...more },
          hardlink('d/h', 'd/f\xff'),
          hardlink('d/hl', 'd/l'),
        );
        expect({ bytes, entries }).to.deep.equal({ bytes: 7, entries: 8 });
        expect(layer.describe('d')).to.include({
          mode: '40640',
          owner: '7:4000000000',
          mtimeNs: nanoseconds(early),
        });
        expect(layer.describe('d').xattrs).to.deep.include({ 'user.d': 'v' });
        expect(layer.describe('d/h')).to.include({
          mode: '106755',
          owner: '7:4000000000',
          mtimeNs: nanoseconds(time),
        });
        expect(layer.describe('d/h').xattrs).to.deep.equal(xattrs);
        expect(layer.describe('d/l')).to.include({
          target: 'nowhere\xfe',
          owner: '7:4000000000',
          mtimeNs: nanoseconds(time),
        });
        expect(layer.describe('d/l').xattrs).to.deep.equal({ 'trusted.l': 'v' });
        expect(layer.describe('d/c')).to.include({ mode: '20640', owner: '7:4000000000' });
        expect(layer.describe('d/b').mode).to.equal('60640');
        expect(layer.describe('d/p').mode).to.equal('10640');
        expect(layer.describe('d/hl').ino).to.equal(layer.describe('d/l').ino);
        expect(layer.device('d/c')).to.deep.equal({ major: 5, minor: 700_000 });
        expect(layer.device('d/b')).to.deep.equal({ major: 7, minor: 300 });
        expect(layer.names()).to.include('d/f\xff');
      });

      it('a whiteout hides what is beneath, and leaves nothing when nothing is', async () => {
        await layer.beneath(
          directory('d'),
          file('d/gone'),
          directory('d/dir'),
          file('d/dir/x'),
          file('d/stays'),
        );
        await layer.apply(file('d/.wh.gone'), file('d/.wh.dir'), file('d/.wh.none'), file('none/.wh.x'));
        expect(layer.names()).to.deep.equal(['d', 'd/stays']);
        expect(layer.own()).to.not.include.members(['d/none', 'none', 'd/.wh.gone']);
      });

      for (const order of ['before', 'after']) {
        const inOrder = <T>(marks: readonly T[], others: readonly T[]) =>
          order === 'before' ? [...marks, ...others] : [...others, ...marks];

        it(`a whiteout ${order} it never hides what the same archive made`, async () => {
          await layer.beneath(directory('d'), file('d/old'), file('f', 'old'));
          const marks = [file('.wh.d'), file('.wh.f'), file('.wh.n')];
          await layer.apply(...inOrder(marks, [directory('d'), file('d/new'), file('f', 'new'), file('n')]));
          expect(layer.names()).to.deep.equal(['d', 'd/new', 'f', 'n']);
          expect(layer.read('f')).to.equal('new');
        });

        it(`an opaque mark ${order} it hides everything beneath, and nothing of the same archive`, async () => {
          await layer.beneath(
            directory('d'),
            directory('d/sub'),
            file('d/sub/old'),
            file('d/old'),
            file('d/f', 'old'),
            file('e'),
          );
          const made = [
            directory('d'),
            directory('d/sub'),
            file('d/sub/new'),
            file('d/f', 'new'),
            file('d/.wh.old'),
          ];
          await layer.apply(...inOrder([file('d/.wh..wh..opq')], made));
          expect(layer.names()).to.deep.equal(['d', 'd/f', 'd/sub', 'd/sub/new', 'e']);
          expect(layer.own()).to.not.include('d/old');
        });

        it(`an opaque mark at the top ${order} it hides everything`, async () => {
          await layer.beneath(directory('d'), file('d/old'), file('f'), directory('e'), file('e/old'));
          await layer.apply(...inOrder([file('.wh..wh..opq')], [directory('d'), file('d/new'), file('g')]));
          expect(layer.names()).to.deep.equal(['d', 'd/new', 'g']);
        });
      }

      it('an opaque mark in a directory that is nowhere leaves nothing', async () => {
        await layer.apply(file('a/.wh..wh..opq'));
        expect(layer.own()).to.deep.equal([]);
      });

      it('AUFS bookkeeping is passed over', async () => {
        await layer.apply(
          file('.wh..wh.aufs'),
          directory('.wh..wh.plnk'),
          file('.wh..wh.plnk/1.2'),
          file('f'),
        );
        expect(layer.names()).to.deep.equal(['f']);
      });

      it('a directory made where a whiteout was does not show what was beneath', async () => {
        await layer.beneath(directory('d'), file('d/old'), directory('d/sub'), file('d/sub/old'));
        await layer.apply(file('.wh.d'));
        await layer.apply(directory('d', { mode: 0o700 }), file('d/sub/new'));
        expect(layer.names()).to.deep.equal(['d', 'd/sub', 'd/sub/new']);
      });

      it('a directory made where this archive put a file does not show what was beneath', async () => {
        await layer.beneath(directory('d'), file('d/old'));
        await layer.apply(file('d'), directory('d'), file('d/new'));
        expect(layer.names()).to.deep.equal(['d', 'd/new']);
      });

      it('a parent that was hidden is made anew, with the attributes of none', async () => {
        await layer.beneath(directory('d', { mode: 0o700, uid: 5 }), file('d/old'));
        await layer.apply(file('.wh.d'), file('d/new'));
        expect(layer.names()).to.deep.equal(['d', 'd/new']);
        expect(layer.describe('d')).to.include({ mode: '40755', owner: '0:0' });
      });

      it('a directory over a directory replaces its attributes and keeps what is in it', async () => {
        await layer.beneath(directory('d', { xattrs: { 'user.old': '1', 'user.both': '1' } }), file('d/old'));
        await layer.apply(
          directory('d', { mode: 0o1700, uid: 3, mtime: time, xattrs: { 'user.both': '2' } }),
        );
        expect(layer.names()).to.deep.equal(['d', 'd/old']);
        const { xattrs, ...rest } = layer.describe('d');
        expect(rest).to.include({ mode: '41700', owner: '3:0', mtimeNs: nanoseconds(time) });
        expect(xattrs).to.deep.include({ 'user.both': '2' }).and.not.have.property('user.old');
      });

      it('anything else is removed and made anew, never written through', async () => {
        writeFileSync(layer.path('outside/target'), 'safe', { mode: 0o600 });
        const outside = layer.path('outside/target');
        await layer.beneath(
          symlink('link', outside),
          file('file', 'old'),
          directory('dir'),
          file('dir/x'),
          file('other', 'old'),
          hardlink('file2', 'other'),
        );
        await layer.apply(
          file('link', 'new', { mode: 0o777 }),
          directory('file'),
          file('dir', 'now a file'),
          file('file2', 'new'),
        );
        expect(layer.names()).to.deep.equal(['dir', 'file', 'file2', 'link', 'other']);
        expect([layer.read('link'), layer.read('dir'), layer.read('other')]).to.deep.equal([
          'new',
          'now a file',
          'old',
        ]);
        expect(lstatSync(outside)).to.include({ mode: 0o100600, size: 4 });
      });

      it('a full directory replaced by a file, and again by a directory, leaves nothing behind', async () => {
        await layer.apply(
          directory('d'),
          file('d/x'),
          directory('d/e'),
          file('d/e/y'),
          symlink('d/e/l', '/'),
          file('d'),
          directory('d'),
          file('d/z'),
        );
        expect(layer.own()).to.deep.equal(['d', 'd/z']);
      });

      it('directories keep the times of their entries, whatever comes into them later', async () => {
        await layer.beneath(
          directory('below', { mtime: time }),
          directory('below/sub', { mtime: early }),
          file('below/old'),
        );
        await layer.apply(
          directory('d', { mtime: early }),
          directory('d/e', { mtime: time }),
          file('d/e/f'),
          file('d/f'),
          file('d/f', 'again'),
          file('below/sub/new'),
          file('below/.wh.old'),
        );
        expect(layer.describe('d').mtimeNs).to.equal(nanoseconds(early));
        expect(layer.describe('d/e').mtimeNs).to.equal(nanoseconds(time));
        expect(layer.describe('below').mtimeNs).to.equal(nanoseconds(time));
        expect(layer.describe('below/sub').mtimeNs).to.equal(nanoseconds(early));
      });

      it('a parent that is missing is like the one beneath, or else of root with mode 0755', async () => {
        const xattrs = { 'user.a': 'v', 'trusted.b': 'w' };
        await layer.beneath(
          directory('a', { mode: 0o2710, uid: 8, gid: 9, mtime: time, xattrs }),
          directory('a/b', { mode: 0o500 }),
        );
        await layer.apply(file('a/b/c/f'));
        expect(layer.describe('a')).to.include({ mode: '42710', owner: '8:9', mtimeNs: nanoseconds(time) });
        expect(layer.describe('a').xattrs).to.deep.include(xattrs);
        expect(layer.describe('a/b').mode).to.equal('40500');
        expect(layer.describe('a/b/c')).to.include({ mode: '40755', owner: '0:0' });
      });

      it('links on the way to an entry are followed inside the layer, and beneath it', async () => {
        await layer.beneath(
          directory('usr'),
          directory('usr/bin'),
          file('usr/bin/old'),
          symlink('bin', 'usr/bin'),
          symlink('abs', '/usr/bin'),
          symlink('up', '../../../../usr/./bin/../bin'),
        );
        await layer.apply(
          symlink('mine', 'bin'),
          file('bin/a'),
          file('abs/b'),
          file('up/c'),
          file('mine/d'),
          file('mine/.wh.old'),
        );
        expect(layer.names().filter(name => name.startsWith('usr/bin/'))).to.deep.equal(
          ['a', 'b', 'c', 'd'].map(name => `usr/bin/${name}`),
        );
        expect(layer.describe('bin').target).to.equal('usr/bin');
      });

      it('a link whose target is missing gets a directory there', async () => {
        await layer.apply(symlink('l', 'to/there'), file('l/f'));
        expect(layer.names()).to.deep.equal(['l', 'to', 'to/there', 'to/there/f']);
      });

      it('a hard link to a file beneath shares its content, attributes and fate', async () => {
        await layer.beneath(
          directory('d', { mtime: time }),
          file('d/a', 'content', { mode: 0o4711, uid: 6, mtime: time, xattrs: { 'user.a': 'v' } }),
          symlink('d/l', 'x', { mtime: time }),
        );
        await layer.apply(hardlink('b', 'd/a'), hardlink('d/m', 'd/l'));
        expect(layer.read('b')).to.equal('content');
        expect(layer.describe('b')).to.deep.equal(layer.describe('d/a'));
        expect(layer.describe('b')).to.include({ mode: '104711', owner: '6:0', mtimeNs: nanoseconds(time) });
        expect(layer.describe('d/m')).to.include({ target: 'x', mtimeNs: nanoseconds(time) });
        expect(layer.describe('d').mtimeNs).to.equal(nanoseconds(time));
      });

      it('a file is moved by a hard link and a whiteout', async () => {
        await layer.beneath(directory('d'), file('d/a', 'content'));
        await layer.apply(hardlink('d/b', 'd/a'), file('d/.wh.a'));
        expect(layer.names()).to.deep.equal(['d', 'd/b']);
        expect(layer.read('d/b')).to.equal('content');
      });

      it('a hard link to itself changes nothing', async () => {
        await layer.apply(file('a', 'content'), hardlink('a', './a'));
        expect(layer.read('a')).to.equal('content');
      });

      it('a hard link to nothing, to a directory, or to what was hidden is refused', async () => {
        await layer.beneath(directory('d'), file('gone'));
        for (const entries of [
          [hardlink('a', 'none')],
          [hardlink('a', 'd')],
          [hardlink('a', '.')],
          [file('.wh.gone'), hardlink('a', 'gone')],
        ]) {
          expect(await rejection(layer.apply(...entries)))
            .to.be.instanceOf(InvalidArgument)
            .with.property('message')
            .that.includes('no such file');
        }
      });

      it('an access list that a directory hands down is not given to what an archive makes', async () => {
        const acl =
          '\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\x05\0\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff';
        await layer.apply(
          directory('d', { xattrs: { 'system.posix_acl_default': acl } }),
          file('d/f', '', { mode: 0o604 }),
          directory('d/e'),
        );
        expect(layer.describe('d').xattrs).to.have.property('system.posix_acl_default', acl);
        expect(layer.describe('d/f')).to.deep.include({ mode: '100604', xattrs: {} });
        expect(layer.describe('d/e').xattrs).to.not.have.property('system.posix_acl_default');
      });

      it('holes stay holes', async () => {
        const source = layer.path('outside/sparse');
        const fd = openSync(source, 'w');
        writeSync(fd, 'begin', 0);
        writeSync(fd, 'middle', 5_000_000);
        ftruncateSync(fd, 10_000_000);
        closeSync(fd);
        execFileSync('tar', [
          '--sparse',
          '--format=pax',
          '-C',
          layer.path('outside'),
          '-cf',
          layer.path('a.tar'),
          'sparse',
        ]);
        await layer.applyArchive({ path: layer.path('a.tar') });
        const content = readFileSync(source);
        expect(layer.read('sparse')).to.equal(content.toString('latin1'));
        expect(Number(layer.describe('sparse').blocks) * 512).to.be.lessThan(100_000);
        const digests = readDigests(layer.path('digests'));
        if (digests === undefined || digests === 'damaged') throw new Error('no digests');
        expect(digests.get('sparse')).to.include({ size: 10_000_000, content: crc32(content) });
      });

      it('attributes that only files have are left out elsewhere', async () => {
        await layer.apply(symlink('l', 'x', { xattrs: { 'user.a': 'v' } }));
        expect(layer.describe('l').xattrs).to.deep.equal({});
      });

      it('an attribute that looks like one of the union has no effect', async () => {
        await layer.beneath(directory('d'), file('d/old'), directory('e'), file('e/x'));
        const xattrs = { 'trusted.overlay.opaque': 'y', 'trusted.overlay.redirect': '/e' };
        await layer.apply(directory('d', { xattrs }));
        expect(layer.names()).to.deep.equal(['d', 'd/old', 'e', 'e/x']);
        expect(layer.describe('d').xattrs).to.deep.include(xattrs);
      });

      it('attributes of the top are set, and nothing else can replace it', async () => {
        await layer.apply(directory('.', { mode: 0o700, uid: 4, mtime: time }), file('f'));
        expect(layer.describe('.')).to.include({ mode: '40700', owner: '4:0', mtimeNs: nanoseconds(time) });
        for (const entry of [file('.'), symlink('./', '/')]) {
          expect(await rejection(layer.apply({ ...entry, path: '.' }))).to.be.instanceOf(InvalidArgument);
        }
      });

      it('records every file and directory as it is in the end', async () => {
        await layer.apply(
          directory('d'),
          file('d/f', 'content'),
          hardlink('h', 'd/f'),
          file('gone'),
          directory('gone'),
          symlink('l', 'x'),
          file('last', 'content'),
        );
        const digests = readDigests(layer.path('digests'));
        if (digests === undefined || digests === 'damaged') throw new Error('no digests');
        expect([...digests.keys()].sort()).to.deep.equal(['', 'd', 'd/f', 'gone', 'h', 'l', 'last']);
        for (const [path, { ctimeNs, content }] of digests) {
          const { ctimeNs: found } = lstatSync(layer.path('fs', path), { bigint: true });
          expect({ path, ctimeNs }).to.deep.equal({ path, ctimeNs: found });
          expect(content === 0).to.equal(!['d/f', 'h', 'last'].includes(path));
        }
      });

      it('records what replaces or links to a file whose content is still being written', async () => {
        const content = Buffer.alloc(300_000, 'abc');
        const numbers = Array.from({ length: 12 }, (_, index) => index);
        await layer.apply(
          ...numbers.flatMap(index => [
            file(`f${index}`, content),
            index % 2 === 0 ? symlink(`f${index}`, 'x') : hardlink(`h${index}`, `f${index}`),
          ]),
        );
        const digests = readDigests(layer.path('digests'));
        if (digests === undefined || digests === 'damaged') throw new Error('no digests');
        for (const index of numbers) {
          const [one, other] = [digests.get(`f${index}`), digests.get(`h${index}`)];
          if (index % 2 === 0) expect(one).to.include({ type: 'symlink', size: 0, content: 0 });
          else {
            expect(one).to.include({ type: 'file', size: content.length, content: crc32(content) });
            expect(other).to.include({ ctimeNs: one?.ctimeNs, content: crc32(content) });
          }
        }
      });
    });
  }

  describe('of any form', () => {
    const entries = [directory('d'), file('d/f', Buffer.alloc(3_000_000, 'abc')), file('e', 'x')];
    const tar = tarOf(entries);

    beforeEach(() => {
      layer = new Layer(archiver, 'whole');
    });

    afterEach(() => layer.dispose());

    const arrives = async (archive: Parameters<Layer['applyArchive']>[0], expected = tar) => {
      const { diffId, bytes } = await layer.applyArchive(archive);
      expect(bytes).to.equal(3_000_001);
      expect(diffId).to.equal(sha256(expected));
      expect(layer.names()).to.deep.equal(['d', 'd/f', 'e']);
    };

    it('reads an archive from a file, and as a stream of bytes', async () => {
      writeFileSync(layer.path('a.tar'), tar);
      await arrives({ path: layer.path('a.tar') });
      await arrives(stream(tar));
      await arrives(
        stream(...Array.from({ length: 3 }, (_, index) => tar.subarray(index, index + 1)), tar.subarray(3)),
      );
    });

    for (const [name, compress] of [
      ['gzip', gzipSync],
      ['zstd', zstdCompressSync],
    ] as const) {
      it(`reads ${name}, from a file and as a stream; the digest is that of what was compressed`, async () => {
        const bytes = compress(tar);
        writeFileSync(layer.path('a'), bytes);
        await arrives({ path: layer.path('a') });
        await arrives(stream(bytes.subarray(0, 2), bytes.subarray(2)));
      });

      it(`refuses ${name} that is cut off or damaged`, async () => {
        const bytes = Buffer.from(compress(tar));
        expect(await rejection(layer.applyArchive(stream(bytes.subarray(0, -30))))).to.be.instanceOf(
          InvalidArgument,
        );
        bytes.fill(0x55, 20, 60);
        expect(await rejection(layer.applyArchive(stream(bytes)))).to.be.instanceOf(InvalidArgument);
      });
    }

    it('counts what comes after the end of the archive in the digest, and nowhere else', async () => {
      const longer = Buffer.concat([tar, Buffer.alloc(2_500_000, 'junk')]);
      await arrives(stream(longer), longer);
    });

    it('fails as its source does', async () => {
      const failing = async function* () {
        yield tar.subarray(0, 2048);
        throw new NotFound('the registry has lost it');
      };
      expect(await rejection(layer.applyArchive(failing()))).to.be.instanceOf(NotFound);
      const late = async function* () {
        yield tar;
        throw new NotFound('the registry has lost it');
      };
      expect(await rejection(layer.applyArchive(late()))).to.be.instanceOf(NotFound);
      expect(await rejection(layer.applyArchive({ path: layer.path('none') }))).to.be.instanceOf(NotFound);
    });

    it('stops when it is told to, also while a source gives nothing', async () => {
      const controller = new AbortController();
      const silent = async function* () {
        yield tar.subarray(0, 2048);
        controller.abort();
        await new Promise(() => undefined);
      };
      expect(await rejection(layer.applyArchive(silent(), { signal: controller.signal }))).to.be.instanceOf(
        Aborted,
      );
      expect(
        await rejection(layer.applyArchive(stream(tar), { signal: controller.signal })),
      ).to.be.instanceOf(Aborted);
      await arrives(stream(tar));
    });

    it('tells how far it is', async () => {
      writeFileSync(layer.path('a.tar'), tar);
      const seen: { doneBytes: number; totalBytes: number }[] = [];
      await layer.applyArchive(
        { path: layer.path('a.tar') },
        { onProgress: progress => seen.push(progress) },
      );
      expect(seen.at(-1)).to.deep.equal({ doneBytes: tar.length, totalBytes: tar.length });
    });

    it('leaves no descriptor open, whether it works or fails', async () => {
      const open = () => readdirSync('/proc/self/fd').length;
      await layer.applyArchive(stream(tar));
      await rejection(layer.apply(directory('a'), file('a/b'), hardlink('x', 'none')));
      const before = open();
      for (let index = 0; index < 5; index += 1) {
        await layer.applyArchive(stream(tar));
        await rejection(layer.apply(directory('a'), file('a/b'), hardlink('x', 'none')));
        await rejection(layer.applyArchive(stream(tar.subarray(0, 5000))));
      }
      // The tree itself is opened by each call, until the end of the test.
      expect(open() - before).to.equal(15);
    });

    it('fails when the disk is full, whichever file meets that, and closes all of them', async () => {
      const open = () => readdirSync('/proc/self/fd').length;
      const some = Array.from({ length: 200 }, (_, index) => file(`f${index}`, Buffer.alloc(20_000)));
      await layer.applyArchive(stream(tar));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'varve-test', layer.path('fs')]);
      try {
        const before = open();
        for (const entries of [some, [file('large', Buffer.alloc(5_000_000))]])
          expect(await rejection(layer.apply(...entries))).to.be.instanceOf(Exhausted);
        expect(open() - before).to.equal(2);
      } finally {
        layer.close();
        execFileSync('umount', [layer.path('fs')]);
      }
    });

    it('names the attribute that a file system cannot keep', async () => {
      execFileSync('mount', ['-t', 'ramfs', 'none', layer.path('fs')]);
      try {
        const refused = rejection(layer.apply(file('f', '', { xattrs: { 'user.a': 'v' } })));
        const error = await refused;
        expect(error).to.be.instanceOf(Unimplemented).with.property('message');
        expect(error.message).to.include('"user.a"').and.include('"f"').and.include(layer.root);
      } finally {
        layer.close();
        execFileSync('umount', [layer.path('fs')]);
      }
    });
  });
});
