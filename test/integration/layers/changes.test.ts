import { chmodSync, mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { changesOf, cp, Workbench } from './reading.ts';

describe('the changes between two trees', () => {
  let bench: Workbench;
  let before: string;
  let after: string;

  beforeEach(() => {
    bench = new Workbench();
    before = bench.directory('before');
    after = join(bench.path, 'after');
  });

  afterEach(() => bench.close());

  const changes = () => changesOf({ type: 'trees', before: bench.open(before), after: bench.open(after) });

  it('are none between a tree and its copy', async () => {
    mkdirSync(join(before, 'dir'));
    writeFileSync(join(before, 'dir/file'), 'content');
    await cp(before, after);
    expect(changes()).to.deep.equal([]);
  });

  it('are sorted, with each directory above them', async () => {
    for (const name of ['a', 'a/b', 'a-', 'z']) mkdirSync(join(before, name));
    await cp(before, after);
    writeFileSync(join(after, 'a/b/new'), '12345');
    writeFileSync(join(after, 'a-/new'), '1');
    rmSync(join(after, 'z'), { recursive: true });
    expect(changes()).to.deep.equal(['M /a', 'M /a/b', 'A /a/b/new 5', 'M /a-', 'A /a-/new 1', 'D /z']);
  });

  it('hold the path of a deleted or replaced directory, and nothing below it', async () => {
    for (const name of ['gone', 'file']) {
      mkdirSync(join(before, name));
      writeFileSync(join(before, name, 'inside'), '');
    }
    await cp(before, after);
    for (const name of ['gone', 'file']) rmSync(join(after, name), { recursive: true });
    writeFileSync(join(after, 'file'), '123');
    expect(changes()).to.deep.equal(['M /file 3', 'D /gone']);
  });

  for (const [when, moment] of [
    ['whole seconds', 1_000_000_000],
    ['fractions of a second', 1_000_000_000.25],
  ] as const) {
    it(`hold a file of the same size and time, set to ${when}, with another content`, async () => {
      writeFileSync(join(before, 'file'), 'one');
      utimesSync(join(before, 'file'), moment, moment);
      await cp(before, after);
      writeFileSync(join(after, 'file'), 'two');
      utimesSync(join(after, 'file'), moment, moment);
      expect(changes()).to.deep.equal(['M /file 3']);
    });
  }

  it('hold the top when its mode changed, and not when only its time did', async () => {
    await cp(before, after);
    utimesSync(after, 1, 1);
    expect(changes()).to.deep.equal([]);
    chmodSync(after, 0o711);
    expect(changes()).to.deep.equal(['M /']);
  });

  it('show a name that is not UTF-8 with U+FFFD', async () => {
    await cp(before, after);
    writeFileSync(Buffer.concat([Buffer.from(`${after}/a`), Buffer.from([0xff]), Buffer.from('b')]), '');
    expect(changes()).to.deep.equal(['A /a\ufffdb']);
  });
});
