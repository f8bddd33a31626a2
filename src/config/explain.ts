import type { z } from 'zod';
import { show } from '../core/names.ts';
import { nearest } from '../lib/nearest.ts';
import { configKeys, keyAt, keysBelow } from './keys.ts';

/** Something wrong with one key, in words: a sentence whose subject is the key. */
export interface Problem {
  readonly path: readonly string[];
  readonly message: string;
}

/** Says in words what the schema has against a configuration. */
export function explain(issue: z.core.$ZodIssue, input: unknown): readonly Problem[] {
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(key => ({ path: [...path, key], message: unknownKey(path, key) }));
  }
  return [{ path, message: wrongValue(issue, path, valueAt(input, path)) }];
}

function unknownKey(parent: readonly string[], key: string): string {
  const siblings = keysBelow(parent);
  const elsewhere = new Map(configKeys.map(known => [known.path.at(-1) ?? '', known.key]));
  const near = nearest(key, siblings);
  const guess =
    near === undefined ? elsewhere.get(nearest(key, elsewhere.keys()) ?? '') : [...parent, near].join('.');
  const way = guess === undefined ? `the keys there are ${siblings.join(', ')}` : `did you mean ${guess}?`;
  return `is not a key of the configuration; ${way}`;
}

function wrongValue(issue: z.core.$ZodIssue, path: readonly string[], value: unknown): string {
  if (issue.code === 'invalid_key')
    return `is refused: ${issue.issues.map(inner => inner.message).join('; ')}`;
  if (issue.code === 'custom' || issue.code === 'invalid_format') {
    return typeof value === 'string' ? `is ${show(value)}, which ${issue.message}` : issue.message;
  }
  const doc = keyAt(path)?.doc;
  if (value === undefined && doc !== undefined) return `is missing: ${doc}`;
  const taken = keyAt(path)?.type ?? keyAt(path.slice(0, -1))?.elementType ?? takenByMap(path);
  return `${value === undefined ? 'is missing' : `is ${show(value)}`}; it takes ${taken}`;
}

function takenByMap(path: readonly string[]): string {
  const below = keysBelow(path);
  return below.length === 0 ? 'names with keys below them' : `the keys ${below.join(', ')} below it`;
}

function valueAt(input: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, name) => (isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined),
    input,
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
