import Sqlite from 'better-sqlite3';
import {
  Exhausted,
  FailedPrecondition,
  Internal,
  messageOf,
  Unavailable,
  type VarveError,
} from '../../errors/errors.ts';

/** A failure of SQLite (sqlite.org/rescode.html) in our vocabulary. */
export function fromSqlite(error: unknown, action: string): VarveError {
  const code = error instanceof Sqlite.SqliteError ? error.code : '';
  const message = `cannot ${action}: ${messageOf(error)}`;
  // A shared index that cannot grow is the first sign of a full disk while a database is opened.
  if (/^SQLITE_(FULL|IOERR_SHMSIZE)/.test(code))
    return new Exhausted(`${message}; make room on its disk`, { cause: error });
  if (/^SQLITE_(IOERR|CANTOPEN|READONLY|BUSY|LOCKED|CORRUPT)/.test(code)) {
    return new Unavailable(`${message}; look at its disk`, { cause: error });
  }
  if (error instanceof SyntaxError) {
    return new FailedPrecondition(
      `the state database holds a value that is no JSON (${messageOf(error)}); run \`varve state rebuild\`, which ` +
        "keeps the database aside and restores the records from the pools' disks",
      { cause: error },
    );
  }
  return new Internal(message, { cause: error });
}
