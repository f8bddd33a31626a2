import {
  appendFileSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { DigestWriter, readDigests } from '../../../src/drivers/layers/archive/digests.ts';
import { verifyTask } from '../../../src/drivers/layers/archive/verify.ts';
import { LoopDisk } from '../../support/loop-disk.ts';
import { quiet, Workbench } from './reading.ts';

describe('the verification of a layer', () => {
  let bench: Workbench;
  let layer: string;
  let tree: string;

  beforeEach(() => {
    bench = new Workbench();
    layer = bench.directory('7');
    tree = bench.directory('7/fs');
    mkdirSync(join(tree, 'dir'));
    writeFileSync(join(tree, 'dir/file'), 'content');
    writeFileSync(join(tree, 'other'), 'other');
    symlinkSync('other', join(tree, 'link'));
    linkSync(join(tree, 'other'), join(tree, 'hard'));
  });

  afterEach(() => bench.close());

  const verify = (committedAt: Date, inherited: string[] = [], at = layer) =>
    verifyTask(
      {
        tree: { own: bench.open(join(at, 'fs')), directory: at, form: { type: 'whole' }, below: null },
        inherited,
        committedAt: committedAt.toISOString(),
      },
      quiet,
    );
  const now = () => new Date();
  const earlier = () => new Date(Date.now() - 10_000);
  const later = () => new Date(Date.now() + 10_000);

  it('records what has no record, and knows it the next time', () => {
    expect(verify(now())).to.deep.equal({ verified: 0, recorded: 4, bytes: 12, problems: [] });
    expect(verify(now())).to.deep.equal({ verified: 4, recorded: 0, bytes: 12, problems: [] });
  });

  for (const [what, damage, problem] of [
    ['another content', () => writeFileSync(join(tree, 'dir/file'), 'CONTENT'), 'content differs'],
    ['another length', () => appendFileSync(join(tree, 'dir/file'), 'more'), 'content differs'],
    ['another time', () => utimesSync(join(tree, 'dir/file'), 1, 1), 'attributes differ'],
    ['no file any more', () => rmSync(join(tree, 'dir/file')), 'missing'],
    ['no directory any more', () => rmSync(join(tree, 'dir'), { recursive: true }), 'missing'],
  ] as const) {
    it(`names a file with ${what} after the commit, each time`, () => {
      verify(later());
      const committed = earlier();
      damage();
      for (let time = 0; time < 2; time += 1) {
        const found = verify(committed).problems.filter(({ path }) => path === '/dir/file');
        expect(found).to.deep.equal([{ path: '/dir/file', problem }]);
      }
    });
  }

  it('names a file that came after the commit', () => {
    verify(now());
    const committed = earlier();
    writeFileSync(join(tree, 'new'), '');
    expect(verify(committed).problems).to.deep.include({ path: '/new', problem: 'unexpected' });
  });

  it('records anew what was changed, added or deleted before the commit', () => {
    verify(later());
    writeFileSync(join(tree, 'dir/file'), 'changed');
    writeFileSync(join(tree, 'dir/new'), 'new');
    rmSync(join(tree, 'link'));
    expect(verify(later())).to.deep.equal({ verified: 2, recorded: 2, bytes: 15, problems: [] });
    expect(verify(earlier())).to.deep.equal({ verified: 4, recorded: 0, bytes: 15, problems: [] });
  });

  it('takes what a layer beneath recorded for a file that this layer did not touch', () => {
    verify(later());
    const above = bench.directory('8');
    mkdirSync(join(above, 'fs'));
    // As a snapshot: the same inodes.
    linkSync(join(tree, 'dir/file'), join(above, 'fs/file'));
    const beneath = new DigestWriter(join(bench.path, '7'));
    const record = [...(readDigests(join(layer, 'digests')) as Map<string, never>).entries()].find(
      ([path]) => path === 'dir/file',
    )?.[1] as unknown as Parameters<DigestWriter['add']>[0];
    beneath.add({ ...record, path: Buffer.from('file') });
    beneath.finish();
    const inherited = [join(layer, 'digests')];
    expect(verify(later(), inherited, above)).to.include({ verified: 1, recorded: 0 });
    writeFileSync(join(tree, 'dir/file'), 'CONTENT');
    expect(verify(earlier(), inherited, above).problems).to.deep.include({
      path: '/file',
      problem: 'content differs',
    });
  });

  it('believes no records that are damaged, and leaves them as they are', () => {
    verify(now());
    const file = join(layer, 'digests');
    for (const [at, length] of [
      [20, 0],
      [readFileSync(file).length - 1, 0],
      [0, 30],
    ] as const) {
      const bytes = readFileSync(file);
      const damaged = Buffer.from(length === 0 ? bytes : bytes.subarray(0, length));
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      writeFileSync(file, damaged);
      expect(verify(now())).to.deep.equal({
        verified: 0,
        recorded: 0,
        bytes: 0,
        problems: [{ path: file, problem: 'unreadable' }],
      });
      expect(readFileSync(file).equals(damaged)).to.equal(true);
      writeFileSync(file, bytes);
    }
  });

  it('reads no holes, and takes them for zeros', () => {
    truncateSync(join(tree, 'other'), 2 ** 40);
    expect(verify(now())).to.include({ recorded: 4 });
    expect(verify(now()).bytes).to.be.lessThan(2 ** 20);
  });

  it('finds a single bit that was flipped on the disk', async function () {
    this.timeout(30_000);
    const image = join(bench.path, 'disk');
    const disk = await LoopDisk.make(image, 32);
    const at = bench.directory('mount');
    await disk.mount(at);
    try {
      const directory = join(at, '9');
      mkdirSync(join(directory, 'fs'), { recursive: true });
      for (const name of ['first', 'second', 'third']) {
        writeFileSync(join(directory, 'fs', name), Buffer.alloc(8192, `this is ${name}. `));
      }
      const own = openSync(join(directory, 'fs'), 'r');
      const args = {
        tree: { own, directory, form: { type: 'whole' }, below: null },
        inherited: [],
        committedAt: now().toISOString(),
      } as const;
      expect(verifyTask(args, quiet).recorded).to.equal(3);
      closeSync(own);
      await LoopDisk.unmount(at);

      const bytes = readFileSync(image);
      const place = bytes.indexOf('this is second. ') + 5000;
      bytes[place] = (bytes[place] ?? 0) ^ 4;
      writeFileSync(image, bytes);
      await disk.mount(at);
      const again = openSync(join(directory, 'fs'), 'r');
      const found = verifyTask({ ...args, tree: { ...args.tree, own: again } }, quiet);
      closeSync(again);
      expect(found.problems).to.deep.equal([{ path: '/second', problem: 'content differs' }]);
      expect(found.verified).to.equal(2);
    } finally {
      await LoopDisk.unmount(at);
    }
  });
});
