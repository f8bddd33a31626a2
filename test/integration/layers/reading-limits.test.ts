import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { workerScript } from '../../../scripts/lib/paths.ts';
import { compare } from '../../../src/drivers/layers/archive/compare.ts';
import { DigestWriter, readDigests } from '../../../src/drivers/layers/archive/digests.ts';
import { mergeTask } from '../../../src/drivers/layers/archive/merge.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { FailedPrecondition } from '../../../src/errors/errors.ts';
import { directoryFlags, mkdirat, openat } from '../../../src/host/linux/file-calls.ts';
import { directory, file, hardlink, Layer, symlink } from './apply-world.ts';
import { quiet, Workbench } from './reading.ts';

const gibibyte = 2 ** 30;

describe('two large files that look the same', () => {
  let bench: Workbench;

  beforeEach(() => {
    bench = new Workbench();
  });

  afterEach(() => bench.close());

  const large = (tree: string, data: Readonly<Record<number, string>>) => {
    const path = join(bench.directory(tree), 'f');
    const fd = openSync(path, 'w');
    ftruncateSync(fd, 24 * gibibyte);
    for (const [at, text] of Object.entries(data)) writeSync(fd, text, Number(at));
    closeSync(fd);
    utimesSync(path, 1, 1);
  };
  const differences = (checkpoint: () => void = () => undefined) =>
    compare(
      {
        type: 'trees',
        before: bench.open(bench.directory('one')),
        after: bench.open(bench.directory('two')),
      },
      'content',
      checkpoint,
    ).changes.map(({ path }) => path);

  it('are not read where both are holes', () => {
    const [middle, end] = [11 * gibibyte + 5, 24 * gibibyte - 1];
    large('one', { [middle]: 'x', [end]: 'y' });
    large('two', { [middle]: 'x', [end]: 'y' });
    let steps = 0;
    const count = () => {
      steps += 1;
    };
    expect(differences(count)).to.deep.equal([]);
    expect(steps).to.be.within(3, 100);
    large('two', { [middle]: 'x', [end]: 'z' });
    expect(differences()).to.deep.equal(['f']);
    large('two', { [middle]: 'x', [end]: 'y', [12 * gibibyte]: 'z' });
    expect(differences()).to.deep.equal(['f']);
    large('two', { [middle]: 'x', [end]: 'y', [12 * gibibyte]: '\0' });
    expect(differences()).to.deep.equal([]);
  });

  it('are left alone when the work is cancelled', () => {
    const bytes = Buffer.alloc(4_000_000, 'x');
    for (const tree of ['one', 'two']) {
      writeFileSync(join(bench.directory(tree), 'f'), bytes);
      utimesSync(join(bench.path, tree, 'f'), 1, 1);
    }
    let steps = 0;
    const stop = () => {
      steps += 1;
      if (steps === 5) throw new Error('cancelled');
    };
    expect(() => differences(stop)).to.throw('cancelled');
  });
});

describe('merging deltas that are very deep', () => {
  it('is done up to a depth, beyond that refused, and leaves nothing open', async function () {
    this.timeout(60_000);
    const bench = new Workbench();
    try {
      const merge = (depth: number) => {
        const [upper, into] = [bench.directory(`upper-${depth}`), bench.directory(`into-${depth}`)];
        let fd = openSync(upper, 'r');
        for (let level = 0; level < depth; level += 1) {
          mkdirat(fd, Buffer.from('d'), 0o755);
          const next = openat(fd, Buffer.from('d'), directoryFlags);
          closeSync(fd);
          fd = next;
        }
        closeSync(fd);
        const lower = bench.open(bench.directory('lower'));
        const args = { upper: bench.open(upper), lower, below: null, into: bench.open(into) };
        mergeTask({ ...args, prefix: 'trusted.overlay.', redirects: false }, quiet);
      };
      merge(1000);
      const before = readdirSync('/proc/self/fd').length;
      expect(() => merge(1001)).to.throw(FailedPrecondition, '1000 directories');
      // The three directories of the test itself.
      expect(readdirSync('/proc/self/fd').length - before).to.equal(3);
    } finally {
      await bench.close();
    }
  });
});

describe('what an archive brings from elsewhere', () => {
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

      it('leaves out attributes of other systems, and keeps the rest', async () => {
        const xattrs = { 'com.apple.provenance': '\x01', 'system.nfs4_acl': 'acl', 'user.a': 'v' };
        await layer.apply(directory('d', { xattrs }), file('d/f', 'x', { xattrs }));
        for (const path of ['d', 'd/f']) expect(layer.describe(path).xattrs).to.deep.equal({ 'user.a': 'v' });
      });

      it('records every name of a symbolic link that has several', async () => {
        await layer.apply(
          symlink('l', 'x'),
          hardlink('m', 'l'),
          { path: 'p', type: 'fifo' },
          hardlink('q', 'p'),
        );
        const digests = readDigests(layer.path('digests'));
        if (digests === undefined || digests === 'damaged') throw new Error('no digests');
        expect([...digests.keys()].sort()).to.deep.equal(['', 'l', 'm', 'p', 'q']);
        expect(digests.get('l')).to.deep.include({
          ctimeNs: digests.get('m')?.ctimeNs,
          attributes: digests.get('m')?.attributes,
        });
      });
    });
  }
});

describe('digests that cannot take their place', () => {
  it('leave nothing open, and close nothing else', async () => {
    const bench = new Workbench();
    try {
      mkdirSync(join(bench.path, 'digests/in-the-way'), { recursive: true });
      const writer = new DigestWriter(bench.path, false);
      expect(() => writer.finish()).to.throw();
      // Gets the number that was free a moment ago.
      const other = openSync(bench.path, 'r');
      writer.discard();
      closeSync(other);
      expect(readdirSync(bench.path)).to.deep.equal(['digests']);
    } finally {
      await bench.close();
    }
  });
});
