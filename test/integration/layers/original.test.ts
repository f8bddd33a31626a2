/** An archive that was applied and kept comes back to the byte, whatever it is made of. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import { workerScript } from '../../../scripts/lib/paths.ts';
import type { Applied } from '../../../src/core/layers/layer-store.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { FailedPrecondition, InvalidArgument, Unavailable } from '../../../src/errors/errors.ts';
import { times } from '../../support/long.ts';
import { rejection } from '../../support/rejection.ts';
import { block, end, gnu, member, octal, padded, pax } from '../../unit/tar/archive.ts';
import { directory, type Entry, file, hardlink, Layer, stream, symlink, tarOf } from './apply-world.ts';

const manyBytes = Buffer.alloc(10_000_000);
for (let at = 0; at < manyBytes.length; at += 1) manyBytes[at] = at * 7919 + (at >> 8) * 31;
/** Bytes that hardly compress. */
const noise = (length: number): Buffer => manyBytes.subarray(0, length);

/** A member whose padding is not zero. */
const dirty = (name: string, content: Buffer): Buffer => {
  const whole = member({ name }, content);
  return whole.fill('padding ', 512 + content.length);
};

const sparseForms = (name: string, data: string): readonly Buffer[] => [
  ...[
    block({
      ...{ name, type: 'S', magic: gnu, size: octal(data.length) },
      more: [
        [386, octal(1000)],
        [398, octal(data.length)],
        [483, octal(9000)],
      ],
    }),
    padded(data),
  ],
];

const paxSparse = (name: string, data: string): readonly Buffer[] => [
  pax([
    ['GNU.sparse.name', name],
    ['GNU.sparse.size', '9000'],
    ['GNU.sparse.map', `0,1,5000,${data.length - 1}`],
  ]),
  member({}, data),
  pax([
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.realsize', '9000'],
    ['GNU.sparse.name', `${name}2`],
  ]),
  member({}, Buffer.concat([padded(`2\n10\n1\n100\n${data.length - 1}\n`), Buffer.from(data)])),
];

describe('the original of a layer', function () {
  this.timeout(60_000);
  let archiver: WorkerArchiver;

  before(() => {
    archiver = new WorkerArchiver(workerScript);
  });
  after(() => archiver.close());

  for (const form of ['whole', 'delta'] as const) {
    describe(`in the form ${form}`, () => {
      let layer: Layer;

      beforeEach(() => {
        layer = new Layer(archiver, form);
      });
      afterEach(() => layer.dispose());

      const keep = (archive: Buffer): Promise<Applied> =>
        layer.applyArchive(stream(archive), { keepOriginal: true });

      async function expectBack(archive: Buffer): Promise<void> {
        const { diffId, size } = await keep(archive);
        expect(size).to.equal(archive.length);
        expectSame(await bytesOf(layer.original(diffId)), archive);
      }

      it('has all entries, and does not hold the contents of files a second time', async () => {
        const content = noise(3_000_000);
        await expectBack(
          tarOf([
            directory('d'),
            file('d/big', content, { xattrs: { 'user.a': 'b' } }),
            file('d/empty'),
            symlink('s', 'd'),
            hardlink('again', 'd/big'),
            file('s/through a link', 'x'),
            { path: 'pipe', type: 'fifo' },
          ]),
        );
        expect(keptBytes(layer)).to.be.below(5000);
      });

      it('is over other layers what was applied, not what is beneath', async () => {
        await layer.beneath(directory('d'), file('d/f', 'beneath'), file('gone', 'x'), symlink('s', 'd'));
        await expectBack(
          tarOf([
            file('d/f', 'above'),
            file('.wh.gone'),
            file('s/g', 'g'),
            hardlink('l', 'd/f'),
            file('d/f', 'again'),
          ]),
        );
      });

      it('has padding, headers that are no entry, and what follows the end', async () => {
        const archive = Buffer.concat([
          pax([['comment', 'global']], 'g'),
          dirty('f', Buffer.from('content')),
          member({ name: 'L', type: 'L', magic: gnu }, `${'long/'.repeat(40)}name\0`),
          dirty('short', noise(513)),
          ...sparseForms('sparse', 'data'),
          ...paxSparse('pax', 'data'),
          end,
          noise(70_000),
        ]);
        await expectBack(archive);
      });

      it('has what the layer leaves out', async () => {
        await expectBack(
          Buffer.concat([
            member({ name: '.wh..wh.plnk/1' }, noise(5000)),
            member({ name: '.wh.nothing' }, 'a whiteout with content'),
            member({ name: 'd/.wh..wh..opq' }, 'opaque'),
            end,
          ]),
        );
      });

      it('has every content of a path that comes again and again', async () => {
        const archive = tarOf([
          directory('d'),
          file('d/f', noise(2000)),
          hardlink('l', 'd/f'),
          file('d/f', 'second'),
          file('d/f', 'third'),
          hardlink('d/f', 'l'),
          file('l', 'fourth'),
          file('d/f', 'fifth'),
          directory('d/e'),
          file('d/e/x', 'x'),
          file('d/e/y', 'y'),
          hardlink('d/e/z', 'd/e/x'),
          file('d/e', 'instead of a directory'),
          symlink('d', 'elsewhere'),
          directory('elsewhere'),
          file('d/f', 'sixth'),
          file('d/f', 'seventh'),
        ]);
        await expectBack(archive);
      });

      it('takes no more room for a file that many links lose than once', async () => {
        const links = Array.from({ length: 50 }, (_, at) => `l${at}`);
        await expectBack(
          tarOf([
            file('f', noise(1_000_000)),
            ...links.map(link => hardlink(link, 'f')),
            ...links.map(link => file(link, link)),
            file('f', 'f'),
          ]),
        );
        expect(keptBytes(layer)).to.be.below(1_100_000);
      });

      it('keeps the holes of a file that is replaced', async () => {
        const hole = pax([
          ['GNU.sparse.name', 'hole'],
          ['GNU.sparse.size', String(2 ** 40)],
          ['GNU.sparse.map', '4096,4'],
        ]);
        await expectBack(Buffer.concat([hole, member({}, 'data'), member({ name: 'hole' }, 'now'), end]));
        expect(keptBytes(layer)).to.be.below(100_000);
      });

      it('is not given back when a file was changed, shortened or removed', async () => {
        const archive = tarOf([file('a', noise(100_000)), file('f', 'content'), file('z', noise(100_000))]);
        const changes: readonly ((path: string) => void)[] = [
          path => writeFileSync(path, 'CONTENT'),
          path => truncateSync(path, 3),
          path => rmSync(path),
          path => {
            renameSync(path, `${path}2`);
            symlinkSync('f2', path);
          },
        ];
        for (const change of changes) {
          const fresh = new Layer(archiver, form);
          try {
            const { diffId } = await fresh.applyArchive(stream(archive), { keepOriginal: true });
            change(fresh.path('fs/f'));
            const pieces: Uint8Array[] = [];
            const reading = (async () => {
              for await (const piece of fresh.original(diffId)) pieces.push(piece);
            })();
            expect(await rejection(reading)).to.be.instanceOf(FailedPrecondition);
            expect(Buffer.concat(pieces).length).to.be.below(archive.length);
          } finally {
            fresh.dispose();
          }
        }
      });

      it('is refused when what was kept is damaged', async () => {
        const { diffId } = await keep(tarOf([file('f', 'content')]));
        const path = layer.path('original/archive.zst');
        truncateSync(path, statSync(path).size - 5);
        expect(await rejection(bytesOf(layer.original(diffId)))).to.be.instanceOf(Unavailable);
      });

      it('is kept of the last archive only, and of none that is refused', async () => {
        await keep(tarOf([file('f', 'content')]));
        await layer.apply(file('g'));
        expect(readdirSync(layer.root)).not.to.include('original');
        await rejection(keep(tarOf([file('h'), hardlink('i', 'nothing')])));
        expect(readdirSync(layer.root).filter(name => name.includes('original'))).to.deep.equal([]);
      });

      it('whose reader stops does not keep its worker', async () => {
        const { diffId } = await keep(tarOf([file('f', noise(10_000_000))]));
        for await (const piece of layer.original(diffId)) {
          expect(piece.length).to.be.above(0);
          break;
        }
        expect((await bytesOf(layer.original(diffId))).length).to.be.above(10_000_000);
      });

      it('is the archive, for any archive that is accepted', async () => {
        let accepted = 0;
        await fc.assert(
          fc.asyncProperty(anyArchive, fc.boolean(), async (archive, hasBelow) => {
            const fresh = new Layer(archiver, form);
            try {
              if (hasBelow) await fresh.beneath(...below);
              const applied = await fresh
                .applyArchive(stream(archive), { keepOriginal: true })
                .catch((error: unknown) => {
                  if (error instanceof InvalidArgument) return undefined;
                  throw error;
                });
              expect(existsSync(fresh.path('original'))).to.equal(applied !== undefined);
              if (applied === undefined) return;
              accepted += 1;
              expectSame(await bytesOf(fresh.original(applied.diffId)), archive);
            } finally {
              fresh.dispose();
            }
          }),
          { numRuns: times(40, 400) },
        );
        expect(accepted).to.be.above(10);
      });
    });
  }
});

const below: readonly Entry[] = [
  ...[directory('a'), file('a/b', 'beneath'), file('b', 'beneath'), symlink('c', 'a')],
  ...[directory('d'), directory('d/a'), file('d/a/b', 'deep'), hardlink('d/l', 'b')],
];

const name = fc.constantFrom(
  ...['a', 'b', 'c', 'd', './a', '/b', 'a/b', 'c/b', 'd/a', 'd/a/b', 'd//c', 'a/../b', 'd/l', 'a/b/c'],
);
const content = fc.oneof(
  { weight: 8, arbitrary: fc.uint8Array({ maxLength: 1200 }).map(bytes => Buffer.from(bytes)) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 2_500_000 }).map(noise) },
);

/** Some blocks of an archive. */
const part: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(name, content).map(([path, data]) => dirty(path, data)) },
  { weight: 3, arbitrary: name.map(path => block({ name: path, type: '5' })) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(name, name)
      .map(([path, to]) => block({ name: path, linkName: to, type: '1', magic: gnu })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(name, name).map(([path, to]) => block({ name: path, linkName: to, type: '2' })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(name, content).map(([path, data]) => member({ name: `${path}/.wh.b` }, data)),
  },
  { weight: 1, arbitrary: name.map(path => member({ name: `${path}/.wh..wh..opq` }, '')) },
  { weight: 1, arbitrary: content.map(data => member({ name: '.wh..wh.aufs' }, data)) },
  {
    weight: 2,
    arbitrary: fc.tuple(name, content).map(([path, data]) =>
      Buffer.concat([
        pax([
          ['path', path],
          ['mtime', '-1.5'],
          ['comment', 'x'.repeat(700)],
          ['SCHILY.xattr.user.a', '\0'],
        ]),
        member({}, data),
      ]),
    ),
  },
  { weight: 1, arbitrary: name.map(path => Buffer.concat(sparseForms(path, 'sparse data'))) },
  { weight: 1, arbitrary: name.map(path => Buffer.concat(paxSparse(path, 'sparse data'))) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(name, content)
      .map(([path, data]) =>
        Buffer.concat([member({ type: 'L', magic: gnu }, `${path}\0`), dirty('short', data)]),
      ),
  },
);

const anyArchive = fc
  .tuple(fc.array(part, { maxLength: 14 }), content)
  .map(([parts, after]) => Buffer.concat([...parts, end, after]));

async function bytesOf(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(Buffer.from(piece));
  return Buffer.concat(all);
}

/** Without the bytes in the message. */
function expectSame(found: Buffer, expected: Buffer): void {
  const describe = (bytes: Buffer) =>
    `${bytes.length} bytes, sha256 ${createHash('sha256').update(bytes).digest('hex')}`;
  expect(describe(found)).to.equal(describe(expected));
}

/** What is kept beside the layer, on the disk. */
function keptBytes(layer: Layer): number {
  const names = readdirSync(layer.path('original'));
  return names.reduce((sum, each) => sum + statSync(layer.path('original', each)).blocks * 512, 0);
}
