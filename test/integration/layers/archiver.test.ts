import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { workerScript } from '../../../scripts/lib/paths.ts';
import type { View } from '../../../src/drivers/layers/archive/archiver.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { openDirectoryView } from '../../../src/drivers/layers/directory-view.ts';
import { DeadlineExceeded } from '../../../src/errors/errors.ts';
import { rejection } from '../../support/rejection.ts';
import { file, Layer, tarOf } from './apply-world.ts';

describe('peers of the archiver', () => {
  let archiver: WorkerArchiver;
  let scratch: string;
  let view: View;

  beforeEach(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'varve-archiver-'));
    // More than a pipe holds.
    writeFileSync(join(scratch, 'file'), Buffer.alloc(8 * 1024 * 1024, 1));
    view = await openDirectoryView(scratch);
  });

  afterEach(async () => {
    await archiver.close();
    await view.close();
    rmSync(scratch, { recursive: true });
  });

  const diff = () => archiver.diff({ type: 'trees', before: null, after: view }, {});

  it('that do not read a difference keep nobody from measuring a layer, or from unpacking one', async () => {
    archiver = new WorkerArchiver(workerScript);
    const unread = Array.from({ length: Math.max(2, availableParallelism()) }, diff);
    expect((await archiver.measure(view)).inodes).to.equal(2);
    const layer = new Layer(archiver, 'whole');
    await layer.apply(file('a', 'x'));
    expect(layer.read('a')).to.equal('x');
    layer.dispose();
    for (const { bytes } of unread) await bytes[Symbol.asyncIterator]().return?.();
  });

  it('that never begin to read are given up, and the trees are free', async () => {
    archiver = new WorkerArchiver(workerScript, 200);
    const { bytes, ended } = diff();
    await ended;
    const error = await rejection(bytes[Symbol.asyncIterator]().next());
    expect(error).to.be.instanceOf(DeadlineExceeded);
    expect(error.message).to.include('nobody took the next bytes of the archive for 0.2 seconds');
  });

  it('that stop to read are given up', async () => {
    archiver = new WorkerArchiver(workerScript, 200);
    const { bytes, ended } = diff();
    const reader = bytes[Symbol.asyncIterator]();
    await reader.next();
    await ended;
    expect(await rejection(reader.next())).to.be.instanceOf(DeadlineExceeded);
  });

  it('that read slowly get everything', async () => {
    archiver = new WorkerArchiver(workerScript, 2_000);
    let length = 0;
    for await (const chunk of diff().bytes) {
      length += chunk.length;
      await new Promise(setImmediate);
    }
    expect(length).to.be.above(8 * 1024 * 1024);
  });

  it('that stop to send an archive are given up', async () => {
    archiver = new WorkerArchiver(workerScript, 200);
    const layer = new Layer(archiver, 'whole');
    const stalled = async function* () {
      yield tarOf([file('a', 'x')]).subarray(0, 512);
      await new Promise(() => {});
    };
    const error = await rejection(layer.applyArchive(stalled()));
    expect(error).to.be.instanceOf(DeadlineExceeded);
    expect(error.message).to.include('no byte of the archive came for 0.2 seconds');
    layer.dispose();
  });
});
