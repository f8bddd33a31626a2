import type { Clock } from '../../core/ports.ts';

/** A clock that stands still until it is told. */
export class FakeClock implements Clock {
  #now: Date;

  constructor(now: Date = new Date('2026-01-01T00:00:00Z')) {
    this.#now = now;
  }

  now(): Date {
    return new Date(this.#now);
  }

  set(now: Date): void {
    this.#now = now;
  }

  advance(milliseconds: number): void {
    this.#now = new Date(this.#now.getTime() + milliseconds);
  }
}
