import { rmSync, statSync, writeFileSync } from 'node:fs';

/** Enough for the log of a few dozen removals, in bytes. */
const size = 1024 * 1024;
/** Time until the disk is looked at again, in milliseconds: a removal needs a moment to free its space. */
const pause = 5_000;

/**
 * Space on the disk of a database that only removals get, and opening it: what frees a full disk must itself be
 * recorded first, and a log grows before it shrinks (sqlite.org/wal.html). It is taken whenever the disk has it.
 */
export class Reserve {
  readonly #path: string;
  #timer: NodeJS.Timeout | undefined;

  constructor(database: string) {
    this.#path = `${database}-reserve`;
  }

  /** Takes the space, now or once the disk has it, until it is closed. */
  keep(): void {
    clearTimeout(this.#timer);
    if (this.#isThere()) return;
    try {
      writeFileSync(this.#path, Buffer.alloc(size));
    } catch {
      // The database works without it.
      rmSync(this.#path, { force: true });
      this.#keepLater();
    }
  }

  /** Gives the space to whoever writes next. @returns whether there was any to give */
  release(): boolean {
    if (!this.#isThere()) return false;
    rmSync(this.#path);
    this.#keepLater();
    return true;
  }

  /** Looks no longer for space; what was taken stays. */
  close(): void {
    clearTimeout(this.#timer);
  }

  #keepLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.keep(), pause).unref();
  }

  #isThere(): boolean {
    return statSync(this.#path, { throwIfNoEntry: false })?.size === size;
  }
}
