/** What every store asks of its callers, in one place, so that all refuse the same. */
import type { Change, Compare } from '../core/ports.ts';
import { Aborted, InvalidArgument, messageOf } from '../errors/errors.ts';

/** A change with its value as JSON text; without one the object is deleted. */
export interface Write {
  readonly key: string;
  readonly json: string | undefined;
}

/** How a list is cut into pages. */
export interface Page {
  readonly limit?: number;
  readonly after?: string;
}

/** Changes that a store keeps for its watchers, unless it is told otherwise. */
export const defaultHistoryLimit = 10_000;

/** @throws InvalidArgument when a key is changed twice or cannot be one, or a value is no JSON */
export function parseChanges(changes: readonly Change[]): readonly Write[] {
  const keys = new Set(changes.map(({ key }) => key));
  if (keys.size !== changes.length) throw new InvalidArgument('a transaction changes a key at most once');
  for (const key of keys) checkKey(key);
  return changes.map(change => ({
    key: change.key,
    json: change.type === 'put' ? toJson(change.key, change.value) : undefined,
  }));
}

/** @throws InvalidArgument when the prefix or the page cannot be one */
export function checkPage(prefix: string, { limit, after }: Page): void {
  checkText(prefix);
  if (after !== undefined) checkText(after);
  if (limit !== undefined) checkCount('the limit of a list', limit);
}

/** @throws InvalidArgument when the prefix or the revision cannot be one */
export function checkWatch(prefix: string, from: number): void {
  checkText(prefix);
  checkCount('the revision to watch from', from);
}

/** @throws Aborted when the revision that was found is not the one of the condition */
export function checkCondition({ key, revision }: Compare, found: number): void {
  if (found === revision) return;
  throw new Aborted(`${key} has changed meanwhile (revision ${found}, not ${revision}); try again`);
}

function checkKey(key: string): void {
  if (key === '') throw new InvalidArgument('the key of an object is empty; name the object');
  checkText(key);
}

/** UTF-8 cannot hold half of a UTF-16 pair: two such keys would become the same one. */
function checkText(text: string): void {
  if (text.isWellFormed()) return;
  throw new InvalidArgument(`the key ${JSON.stringify(text)} holds half of a character; use whole ones`);
}

function checkCount(what: string, count: number): void {
  if (Number.isSafeInteger(count) && count >= 0) return;
  throw new InvalidArgument(`${what} is ${count}; use a whole number from 0 on`);
}

function toJson(key: string, value: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    throw new InvalidArgument(`the value of ${JSON.stringify(key)} is no JSON: ${messageOf(error)}`);
  }
  if (json !== undefined) return json;
  throw new InvalidArgument(`the value of ${JSON.stringify(key)} is no JSON but ${typeof value}`);
}
