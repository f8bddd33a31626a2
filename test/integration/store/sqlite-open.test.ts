import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect } from 'chai';
import type { ObjectStore } from '../../../src/core/ports.ts';
import { Aborted, FailedPrecondition, NotFound, Unavailable } from '../../../src/errors/errors.ts';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';
import { schemaVersion } from '../../../src/store/sqlite/schema.ts';
import { drop, put } from '../../suites/object-store.ts';
import { rejection } from '../../support/rejection.ts';

const pageSize = 4096;

describe('a SQLite store', () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'varve-store-'));
    path = join(directory, 'state.db');
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const open = (create = false) => openSqliteStore(path, { synchronous: 'FULL', create });

  async function using<T>(
    opening: Promise<ObjectStore>,
    act: (store: ObjectStore) => Promise<T>,
  ): Promise<T> {
    const store = await opening;
    try {
      return await act(store);
    } finally {
      await store.close();
    }
  }

  /** Makes a database of some pages, with nothing in its log. */
  const make = () =>
    using(open(true), async store => {
      for (let n = 1; n <= 40; n += 1) {
        await store.transaction([], [put(`volume/${n}`, { name: `v${n}`, pad: 'x'.repeat(900) })]);
      }
    });

  const change = (statement: string) => {
    const database = new Sqlite(path);
    database.exec(statement);
    database.close();
  };

  const overwrite = (offset: number, bytes: Buffer) => {
    const file = openSync(path, 'r+');
    writeSync(file, bytes, 0, bytes.length, offset);
    closeSync(file);
  };

  /** Whether or not a missing database may be made: refused, with the file as it was. */
  async function expectRefused(...words: string[]): Promise<void> {
    const before = existsSync(path) ? readFileSync(path) : undefined;
    for (const create of [false, true]) {
      const refused = await rejection(open(create));
      expect(refused, refused.message).to.be.instanceOf(FailedPrecondition);
      for (const word of [path, ...words]) expect(refused.message).to.include(word);
      expect(existsSync(path) ? readFileSync(path) : undefined).to.deep.equal(before);
    }
  }

  describe('that is opened again', () => {
    it('has its objects, revisions and history', async () => {
      await using(open(true), async store => {
        await store.transaction([], [put('a', { deep: [null, '😀'] }), put('b')]);
        await store.transaction([], [drop('b')]);
      });
      await using(open(), async store => {
        expect(await store.revision()).to.equal(2);
        expect(await store.list('')).to.deep.equal([
          { key: 'a', value: { deep: [null, '😀'] }, createdRevision: 1, revision: 1 },
        ]);
        const types: string[] = [];
        for await (const event of store.watch('', 0, AbortSignal.timeout(3_000))) {
          if (types.push(event.type) === 3) break;
        }
        expect(types).to.deep.equal(['put', 'put', 'delete']);
      });
    });

    it('goes on counting where it was, even with every object and the whole history gone', async () => {
      await using(open(true), async store => {
        await store.transaction([], [put('a')]);
        await store.transaction([], [drop('a')]);
      });
      change('DELETE FROM history');
      await using(open(), async store => {
        expect(await store.revision()).to.equal(2);
        expect(await store.transaction([], [put('a')])).to.equal(3);
      });
    });

    it('remembers how much of the history is gone', async () => {
      const few = { synchronous: 'FULL', create: true, historyLimit: 2 } as const;
      await using(openSqliteStore(path, few), async store => {
        for (let n = 1; n <= 5; n += 1) await store.transaction([], [put('n', n)]);
      });
      await using(open(), async store => {
        const watching = store.watch('', 2, AbortSignal.timeout(3_000))[Symbol.asyncIterator]();
        expect(await rejection(watching.next())).to.be.instanceOf(Aborted);
      });
    });

    it('keeps a write-ahead log', async () => {
      await using(open(true), store => store.transaction([], [put('a')]));
      // The versions that may write and read it (sqlite.org/fileformat2.html, 1.3.3): 2 is the log.
      expect([...readFileSync(path).subarray(18, 20)]).to.deep.equal([2, 2]);
    });
  });

  it('that is closed answers Unavailable', async () => {
    const store = await open(true);
    await store.close();
    await store.close();
    for (const call of [() => store.revision(), () => store.get('a'), () => store.list('')]) {
      expect(await rejection(call())).to.be.instanceOf(Unavailable);
    }
    expect(await rejection(store.transaction([], [put('a')]))).to.be.instanceOf(Unavailable);
  });

  describe('that is not to be made', () => {
    it('is NotFound when it is missing, and nothing is made', async () => {
      const missing = await rejection(open());
      expect(missing).to.be.instanceOf(NotFound);
      expect(missing.message).to.include(path);
      expect(existsSync(path)).to.equal(false);
    });

    it('is NotFound when it is empty, or has no tables yet', async () => {
      writeFileSync(path, '');
      expect(await rejection(open())).to.be.instanceOf(NotFound);
      change('VACUUM');
      expect(statSync(path).size).to.be.at.least(pageSize);
      expect(await rejection(open())).to.be.instanceOf(NotFound);
    });

    it('is made in an empty file, and where a start was cut short, when it may be', async () => {
      writeFileSync(path, '');
      await using(open(true), async store => expect(await store.revision()).to.equal(0));
      rmSync(path);
      change('VACUUM');
      await using(open(true), async store => expect(await store.revision()).to.equal(0));
    });
  });

  describe('that is damaged is refused, with the cure, and left as it is', () => {
    const cure = ['is damaged', 'varve state rebuild'];

    it('when it is no database', async () => {
      writeFileSync(path, 'not a database\n'.repeat(1_000));
      await expectRefused(...cure);
    });

    it('when its header is garbage', async () => {
      await make();
      overwrite(0, Buffer.alloc(100, 0xa5));
      await expectRefused(...cure);
    });

    it('when it is all zeros', async () => {
      await make();
      writeFileSync(path, Buffer.alloc(statSync(path).size));
      await expectRefused(...cure);
    });

    for (const size of [1, 100, 511, 512, 5_000]) {
      it(`when it was cut to ${size} bytes`, async () => {
        await make();
        truncateSync(path, size);
        await expectRefused(...cure);
      });
    }

    it('when it lost its second half', async () => {
      await make();
      const pages = statSync(path).size / pageSize;
      truncateSync(path, Math.floor(pages / 2) * pageSize);
      await expectRefused(...cure);
    });

    it('when it is empty or missing and its log is not', async () => {
      await make();
      writeFileSync(`${path}-wal`, 'what is left of a log');
      writeFileSync(path, '');
      await expectRefused(...cure);
      rmSync(path);
      await expectRefused(...cure);
    });

    it('when any one of its pages is garbage', async () => {
      await make();
      const whole = readFileSync(path);
      expect(whole.length / pageSize).to.be.at.least(10);
      for (let page = 1; page < whole.length / pageSize; page += 1) {
        writeFileSync(path, whole);
        overwrite(page * pageSize, Buffer.alloc(pageSize, 0xa5));
        await expectRefused(...cure);
      }
    });
  });

  it('of another program is refused, and left as it is', async () => {
    change('CREATE TABLE theirs (a)');
    await expectRefused('another program');
    change('PRAGMA application_id = 7; PRAGMA user_version = 1');
    await expectRefused('another program');
  });

  it('of a newer schema is refused, naming both versions and the way out, and left as it is', async () => {
    await make();
    change(`PRAGMA user_version = ${schemaVersion + 6}`);
    await expectRefused(` ${schemaVersion + 6}`, ` ${schemaVersion}`, 'newer varve');
  });
});
