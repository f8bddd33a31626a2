import type { Database, Statement } from 'better-sqlite3';
import type { Change, Compare, ObjectStore, StoredObject, StoreEvent } from '../../core/ports.ts';
import { Exhausted, Unavailable, VarveError } from '../../errors/errors.ts';
import { stepSync } from '../../lib/fault.ts';
import {
  checkCondition,
  checkPage,
  checkWatch,
  defaultHistoryLimit,
  type Page,
  parseChanges,
  type Write,
} from '../changes.ts';
import { compareKeys, prefixEnd } from '../keys.ts';
import { type Batch, batchSize, type History, Watchers } from '../watch.ts';
import { fromSqlite } from './from-sqlite.ts';
import { Reserve } from './reserve.ts';

interface Row {
  readonly key: string;
  readonly value: string;
  readonly created: number;
  readonly revision: number;
}

interface HistoryRow {
  readonly revision: number;
  readonly key: string;
  readonly value: string | null;
  readonly created: number | null;
}

/** SQLite orders every text before every blob: the end of a range without one. */
const endOfText = Buffer.alloc(0);

export interface SqliteStoreOptions {
  /** `FULL`: a transaction is on the disk when it resolves. `OFF`: it survives the process, not a power cut. */
  readonly synchronous: 'FULL' | 'OFF';
  /** How many changes the history keeps for watchers. */
  readonly historyLimit?: number;
}

/** Objects in one SQLite database. Its calls are synchronous; each is 0.2 ms on an idle disk. */
export class SqliteStore implements ObjectStore {
  readonly #database: Database;
  readonly #watchers: Watchers;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #historyLimit: number;
  readonly #isDurable: boolean;
  readonly #reserve: Reserve | undefined;

  constructor(database: Database, { historyLimit = defaultHistoryLimit, synchronous }: SqliteStoreOptions) {
    this.#database = database;
    this.#statements = prepare(database);
    this.#historyLimit = historyLimit;
    this.#isDurable = synchronous === 'FULL';
    this.#reserve = this.#isDurable ? new Reserve(database.name) : undefined;
    this.#reserve?.keep();
    this.#watchers = new Watchers(this.#history());
  }

  async revision(): Promise<number> {
    return this.#use('read', () => this.#counter('revision'));
  }

  async get(key: string): Promise<StoredObject | undefined> {
    return this.#use('read', () => {
      const row = this.#row(key);
      return row && toObject(row);
    });
  }

  async list(prefix: string, page: Page = {}): Promise<readonly StoredObject[]> {
    checkPage(prefix, page);
    const { limit = -1, after = '' } = page;
    const from = compareKeys(after, prefix) > 0 ? after : prefix;
    const range = { from, after, end: prefixEnd(prefix) ?? endOfText, limit };
    return this.#use('read', () => (this.#statements.list.all(range) as Row[]).map(toObject));
  }

  async transaction(compares: readonly Compare[], changes: readonly Change[]): Promise<number> {
    const writes = parseChanges(changes);
    const commit = (): number => this.#database.transaction(() => this.#apply(compares, writes)).immediate();
    const write = (): number =>
      this.#use('write', () => (this.#isDurable ? stepSync('store.commit', commit) : commit()));
    const removes = writes.some(({ json }) => json === undefined);
    try {
      return removes ? this.#withReserve(write) : write();
    } finally {
      this.#watchers.notify();
    }
  }

  /** What removes something may use the space that is kept for it. */
  #withReserve<T>(write: () => T): T {
    try {
      return write();
    } catch (error) {
      if (!(error instanceof Exhausted) || !this.#reserve?.release()) throw error;
      return write();
    }
  }

  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<StoreEvent> {
    checkWatch(prefix, from);
    return this.#watchers.watch(prefix, from, signal);
  }

  async close(): Promise<void> {
    this.#watchers.close();
    this.#reserve?.close();
    this.#database.close();
  }

  #use<T>(verb: 'read' | 'write', act: () => T): T {
    const { name, open } = this.#database;
    if (!open) throw new Unavailable(`the state database ${name} is closed; start the daemon again`);
    try {
      return act();
    } catch (error) {
      throw error instanceof VarveError ? error : fromSqlite(error, `${verb} the state database ${name}`);
    }
  }

  #apply(compares: readonly Compare[], writes: readonly Write[]): number {
    for (const compare of compares) checkCondition(compare, this.#row(compare.key)?.revision ?? 0);
    const effective = writes.filter(({ key, json }) => json !== undefined || this.#row(key) !== undefined);
    const last = this.#counter('revision');
    if (effective.length === 0) return last;
    const revision = last + 1;
    for (const write of effective) this.#change(write, revision);
    this.#statements.setCounter.run(revision, 'revision');
    this.#compact(revision);
    return revision;
  }

  #change({ key, json }: Write, revision: number): void {
    if (json === undefined) {
      this.#statements.delete.run(key);
      this.#statements.log.run(revision, key, null, null);
      return;
    }
    const created = this.#row(key)?.created ?? revision;
    this.#statements.put.run(key, json, created, revision);
    this.#statements.log.run(revision, key, json, created);
  }

  /** Forgets the oldest history, whole revisions at a time, but never the newest one. */
  #compact(newest: number): void {
    const last = this.#statements.oldestKept.get(this.#historyLimit) as number | undefined;
    if (last === undefined) return;
    const compacted = Math.min(last, newest - 1);
    this.#statements.forget.run(compacted);
    this.#statements.setCounter.run(compacted, 'compacted');
  }

  #row(key: string): Row | undefined {
    return this.#statements.get.get(key) as Row | undefined;
  }

  #counter(name: 'revision' | 'compacted'): number {
    return this.#statements.counter.get(name) as number;
  }

  #history(): History {
    return {
      compacted: () => this.#use('read', () => this.#counter('compacted')),
      revision: () => this.#use('read', () => this.#counter('revision')),
      after: (revision, prefix) => this.#use('read', () => this.#after(revision, prefix)),
    };
  }

  #after(revision: number, prefix: string): Batch {
    const last = this.#statements.batchEnd.get(revision, batchSize - 1) as number | undefined;
    const upTo = last ?? this.#counter('revision');
    const range = { revision, upTo, prefix, end: prefixEnd(prefix) ?? endOfText };
    return { events: (this.#statements.since.all(range) as HistoryRow[]).map(toEvent), upTo };
  }
}

/** Keys compare by their bytes, as SQLite's BINARY collation does; LIKE would fold case and read `%` and `_`. */
function prepare(database: Database): Record<string, Statement> & {
  get: Statement;
  list: Statement;
  put: Statement;
  delete: Statement;
  log: Statement;
  batchEnd: Statement;
  since: Statement;
  oldestKept: Statement;
  forget: Statement;
  counter: Statement;
  setCounter: Statement;
} {
  return {
    get: database.prepare('SELECT * FROM objects WHERE key = ?'),
    list: database.prepare(
      'SELECT * FROM objects WHERE key >= :from AND key <> :after AND key < :end ORDER BY key LIMIT :limit',
    ),
    put: database.prepare('INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)'),
    delete: database.prepare('DELETE FROM objects WHERE key = ?'),
    log: database.prepare('INSERT INTO history (revision, key, value, created) VALUES (?, ?, ?, ?)'),
    batchEnd: database
      .prepare('SELECT revision FROM history WHERE revision > ? ORDER BY revision LIMIT 1 OFFSET ?')
      .pluck(),
    since: database.prepare(
      `SELECT * FROM history WHERE revision > :revision AND revision <= :upTo AND key >= :prefix AND key < :end
       ORDER BY revision, sequence`,
    ),
    oldestKept: database
      .prepare('SELECT revision FROM history WHERE sequence = (SELECT max(sequence) FROM history) - ?')
      .pluck(),
    forget: database.prepare('DELETE FROM history WHERE revision <= ?'),
    counter: database.prepare('SELECT value FROM counters WHERE name = ?').pluck(),
    setCounter: database.prepare('UPDATE counters SET value = ? WHERE name = ?'),
  };
}

function toObject({ key, value, created, revision }: Row): StoredObject {
  return { key, value: JSON.parse(value), createdRevision: created, revision };
}

function toEvent({ revision, key, value, created }: HistoryRow): StoreEvent {
  if (value === null) return { type: 'delete', key, revision };
  return {
    type: 'put',
    object: { key, value: JSON.parse(value), createdRevision: created ?? revision, revision },
  };
}
