import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect } from 'chai';
import type { ObjectStore } from '../../../src/core/ports.ts';
import { checkRecords } from '../../../src/core/volumes/catalog.ts';
import { rebuildRecords } from '../../../src/core/volumes/rebuild.ts';
import { FailedPrecondition } from '../../../src/errors/errors.ts';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';
import { setAsideDatabase } from '../../../src/store/sqlite/set-aside.ts';
import { rejection } from '../../support/rejection.ts';
import { Host, volumeName } from '../../support/world.ts';

const db = volumeName('db');

describe('a database with a damaged record', () => {
  let directory: string;
  let path: string;
  let host: Host;
  let store: ObjectStore;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'varve-store-'));
    path = join(directory, 'state.db');
    host = new Host();
    await open();
    const daemon = await host.start();
    await daemon.service.create(db, daemon.driver, { mode: '0700' });
    host.memory.write(`${host.poolPath}/1/data/file`, 'x');
  });

  afterEach(async () => {
    await store.close();
    rmSync(directory, { recursive: true });
  });

  async function open(): Promise<void> {
    store = await openSqliteStore(path, { synchronous: 'FULL', create: true });
    host.store = store;
  }

  async function damage(value: string): Promise<void> {
    await store.close();
    const database = new Sqlite(path);
    const { changes } = database.prepare("UPDATE objects SET value = ? WHERE key = 'volumes/db'").run(value);
    database.close();
    expect(changes).to.equal(1);
    await open();
  }

  const keptFiles = () =>
    readdirSync(directory).filter(name => /^state\.db\.damaged-[^.]*(\.\d+Z)?$/.test(name));

  const damages = {
    'a value that is no JSON': '{"name":',
    'a record that nobody wrote': '{"name":"db","number":"x"}',
  };
  for (const [what, value] of Object.entries(damages)) {
    it(`(${what}) is refused with the cure, set aside, and restored from the disks`, async () => {
      await damage(value);
      const error = await rejection(host.start());
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('varve state rebuild');
      await store.close();

      const messages: string[] = [];
      await setAsideDatabase(path, checkRecords, message => messages.push(message));
      expect(keptFiles()).to.have.length(1);
      expect(messages.join()).to.contain(keptFiles()[0]);

      await open();
      const { catalog, pools } = await host.start({ rebuild: true });
      expect(await rebuildRecords(catalog, pools, () => {})).to.deep.equal({
        restored: 1,
        kept: 0,
        damaged: [],
      });
      const next = await host.start();
      expect(next.catalog.get(db).record).to.deep.include({ number: 1, options: { mode: '0700' } });
      expect(host.memory.read(`${host.poolPath}/1/data/file`)).to.equal('x');
    });
  }

  it('that is sound again is not set aside', async () => {
    await store.close();
    await setAsideDatabase(path, checkRecords, message => expect.fail(message));
    expect(keptFiles()).to.deep.equal([]);
    await open();
    expect((await host.start()).catalog.get(db).record.number).to.equal(1);
  });

  it('a value that is no JSON is refused by every question that meets it', async () => {
    await damage('{');
    for (const ask of [() => store.get('volumes/db'), () => store.list('volumes/'), () => store.list('')]) {
      const error = await rejection(ask());
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('no JSON').and.to.contain('varve state rebuild');
    }
  });
});
