import type { Database } from 'better-sqlite3';
import { FailedPrecondition } from '../../errors/errors.ts';
import { stepSync } from '../../lib/fault.ts';

/** Marks a SQLite file as one of ours (sqlite.org/pragma.html, application_id): "vrve". */
const applicationId = 0x76727665;

/** Each step takes a database from the version that is its index to the next one. */
const migrations: readonly string[] = [
  `CREATE TABLE objects (
     key TEXT PRIMARY KEY, value TEXT NOT NULL, created INTEGER NOT NULL, revision INTEGER NOT NULL
   ) WITHOUT ROWID, STRICT;
   CREATE TABLE history (
     sequence INTEGER PRIMARY KEY, revision INTEGER NOT NULL, key TEXT NOT NULL, value TEXT, created INTEGER
   ) STRICT;
   CREATE INDEX history_revision ON history (revision);
   CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;
   INSERT INTO counters VALUES ('revision', 0), ('compacted', 0);`,
];

export const schemaVersion = migrations.length;

/**
 * Brings a database to the schema of this program.
 * @throws FailedPrecondition for a database of another program, or of a newer varve
 */
export function migrate(database: Database, path: string): void {
  const found = database.pragma('user_version', { simple: true }) as number;
  const owner = database.pragma('application_id', { simple: true }) as number;
  const isNew = found === 0 && owner === 0 && isEmpty(database);
  if (!isNew && owner !== applicationId) {
    throw new FailedPrecondition(`${path} is a database of another program; name another root`);
  }
  if (found > schemaVersion) {
    throw new FailedPrecondition(
      `${path} has schema version ${found}, and this varve knows ${schemaVersion}; run the newer varve that wrote it`,
    );
  }
  for (const [version, statements] of migrations.entries()) {
    if (version < found) continue;
    const advance = database.transaction(() => {
      database.exec(statements);
      database.pragma(`application_id = ${applicationId}`);
      database.pragma(`user_version = ${version + 1}`);
    });
    stepSync('store.migrate', advance);
  }
}

function isEmpty(database: Database): boolean {
  return database.prepare('SELECT count(*) FROM sqlite_schema').pluck().get() === 0;
}
