import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Sqlite from 'better-sqlite3';
import type { ObjectStore } from '../../core/ports.ts';
import { Exhausted, FailedPrecondition, messageOf, NotFound, VarveError } from '../../errors/errors.ts';
import { fromSqlite } from './from-sqlite.ts';
import { Reserve } from './reserve.ts';
import { migrate } from './schema.ts';
import { SqliteStore, type SqliteStoreOptions } from './sqlite-store.ts';

export interface SqliteOptions extends SqliteStoreOptions {
  /** Whether a missing database is made. */
  readonly create: boolean;
}

/** In bytes (sqlite.org/fileformat2.html, 1.3.2). */
const smallestPage = 512;

/**
 * Opens a database and checks that it is whole.
 * @throws NotFound when it is missing or empty and not to be made
 * @throws FailedPrecondition, with the cure, when it is damaged, of another program or of a newer varve
 * @throws Exhausted when the disk has no room for its log
 */
export async function openSqliteStore(path: string, options: SqliteOptions): Promise<ObjectStore> {
  try {
    return open(path, options);
  } catch (error) {
    const isFull = error instanceof Exhausted && options.synchronous === 'FULL';
    const reserve = new Reserve(path);
    // The log, too, needs room, and what fills the disk can be removed only through an open database.
    if (!isFull || !reserve.release()) throw error;
    reserve.close();
    return open(path, options);
  }
}

function open(path: string, options: SqliteOptions): ObjectStore {
  checkFile(path, options.create);
  mkdirSync(dirname(path), { recursive: true });
  let database: Sqlite.Database | undefined;
  try {
    database = new Sqlite(path);
    database.pragma('busy_timeout = 2000');
    checkIntegrity(database, path);
    if (!options.create && isBlank(database)) throw missing(path);
    database.pragma(`synchronous = ${options.synchronous}`);
    migrate(database, path);
    useLog(database, path);
    return new SqliteStore(database, options);
  } catch (error) {
    database?.close();
    if (error instanceof VarveError) throw error;
    if (isDamage(error)) throw damaged(path, messageOf(error));
    throw fromSqlite(error, `open ${path}`);
  }
}

/** SQLite takes a file shorter than its smallest page for a new one, and deletes a log without its database. */
function checkFile(path: string, create: boolean): void {
  const size = sizeOf(path);
  if (size > 0 && size < smallestPage) throw damaged(path, `it ends after ${size} bytes`);
  if (size > 0) return;
  if (sizeOf(`${path}-wal`) > 0) throw damaged(path, 'it is empty, and its log is not');
  if (!create) throw missing(path);
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** A program that died while it made the database leaves one without tables. */
function isBlank(database: Sqlite.Database): boolean {
  return database.prepare('SELECT count(*) FROM sqlite_schema').pluck().get() === 0;
}

/** Only a database that is known to be ours is switched: the mode stays in the file. */
function useLog(database: Sqlite.Database, path: string): void {
  const mode = database.pragma('journal_mode = WAL', { simple: true });
  if (mode === 'wal') return;
  throw new FailedPrecondition(
    `the file system of ${path} cannot keep a write-ahead log (SQLite uses "${mode}" there); use a local one`,
  );
}

function checkIntegrity(database: Sqlite.Database, path: string): void {
  const verdict = database.pragma('quick_check(1)', { simple: true });
  if (verdict !== 'ok') throw damaged(path, String(verdict));
}

function missing(path: string): NotFound {
  return new NotFound(`there is no database at ${path}; start the daemon, which makes one`);
}

function isDamage(error: unknown): boolean {
  return error instanceof Sqlite.SqliteError && /^SQLITE_(CORRUPT|NOTADB|SCHEMA|FORMAT)/.test(error.code);
}

function damaged(path: string, reason: string): FailedPrecondition {
  return new FailedPrecondition(
    `the database ${path} is damaged (${reason}); run \`varve state rebuild\`, which keeps the file and restores ` +
      "the records from the pools' disks",
  );
}
