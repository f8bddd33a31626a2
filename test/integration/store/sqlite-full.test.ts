import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { must, run } from '../../../scripts/lib/process.ts';
import type { ObjectStore, StoreEvent } from '../../../src/core/ports.ts';
import { Exhausted } from '../../../src/errors/errors.ts';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';
import { put } from '../../suites/object-store.ts';
import { rejection } from '../../support/rejection.ts';

describe('a SQLite store on a full disk', () => {
  let directory: string;
  let disk: string;
  let path: string;
  let store: ObjectStore | undefined;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'varve-store-'));
    disk = join(directory, 'disk');
    path = join(disk, 'state.db');
    mkdirSync(disk);
    await must('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'varve-test', disk]);
  });

  afterEach(async () => {
    await store?.close();
    store = undefined;
    await run('umount', [disk]);
    rmSync(directory, { recursive: true });
  });

  const open = async (): Promise<ObjectStore> => {
    store = await openSqliteStore(path, { synchronous: 'FULL', create: true });
    return store;
  };
  const fill = () => {
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, 'filler'), Buffer.alloc(bavail * bsize));
  };
  const write = (target: ObjectStore, n: number) =>
    target.transaction([], [put('last', n), put(`n/${n}`, 'x'.repeat(20_000))]);

  it('refuses with Exhausted what does not fit, which changes nothing and is no event', async () => {
    const target = await open();
    let last = 0;
    let refused: Error | undefined;
    while (refused === undefined && last < 100) {
      await write(target, last + 1).then(
        revision => {
          last = revision;
        },
        (error: Error) => {
          refused = error;
        },
      );
    }
    expect(refused).to.be.instanceOf(Exhausted);
    expect(refused?.message).to.include(path).and.to.include('make room');
    expect(last).to.be.at.least(3);
    expect(await rejection(write(target, last + 1))).to.be.instanceOf(Exhausted);
    await expectLast(target, last);

    await must('mount', ['-o', 'remount,size=4m', disk]);
    expect(await write(target, last + 1)).to.equal(last + 1);
    await target.close();
    await expectLast(await open(), last + 1);
  });

  it('is not opened with no room for its log, and is whole once there is some', async () => {
    const target = await open();
    await write(target, 1);
    await target.close();
    fill();
    expect(await rejection(open())).to.be.instanceOf(Exhausted);
    rmSync(join(disk, 'filler'));
    await expectLast(await open(), 1);
  });

  it('is not made there, and is made once there is room', async () => {
    fill();
    expect(await rejection(open())).to.be.instanceOf(Exhausted);
    rmSync(join(disk, 'filler'));
    expect(await (await open()).revision()).to.equal(0);
  });
});

async function expectLast(store: ObjectStore, last: number): Promise<void> {
  expect(await store.revision()).to.equal(last);
  expect(await store.get('last')).to.include({ value: last, revision: last });
  expect(await store.list('n/')).to.have.length(last);
  const events: StoreEvent[] = [];
  for await (const event of store.watch('', 0, AbortSignal.timeout(3_000))) {
    if (events.push(event) === 2 * last) break;
  }
  const revisions = events.map(event => (event.type === 'put' ? event.object.revision : undefined));
  expect(revisions.at(-1)).to.equal(last);
}
