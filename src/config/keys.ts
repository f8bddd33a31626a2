import { z } from 'zod';
import { configSchema, notes } from './schema.ts';

/** One key of the configuration. */
export interface ConfigKey {
  /** Dotted, as in the file; `NAME` stands for a name that the user chooses. */
  readonly key: string;
  readonly path: readonly string[];
  /** What a value looks like, in words. */
  readonly type: string;
  /** What a text that a flag or variable gives is turned into. */
  readonly kind: 'number' | 'boolean' | 'text';
  /** What each value in it looks like; null when the value is not a map. */
  readonly elementType: string | null;
  /** The default in words; null when the key has to be given. */
  readonly defaultText: string | null;
  /** Null when the value has no unit. */
  readonly unit: string | null;
  readonly doc: string;
}

/** What stands in {@link ConfigKey.path} for a name that the user chooses. */
const anyName = 'NAME';

/** Every key of the schema, in its order. */
export const configKeys: readonly ConfigKey[] = [...keysOf(configSchema, [])];

/** The keys that exist once, so that a flag and an environment variable can set them. */
export const scalarKeys: readonly ConfigKey[] = configKeys.filter(key => !key.path.includes(anyName));

/** The key that a path in a configuration belongs to. */
export function keyAt(path: readonly string[]): ConfigKey | undefined {
  const matches = (key: ConfigKey) => key.path.every((part, at) => part === anyName || part === path[at]);
  return configKeys.find(key => key.path.length === path.length && matches(key));
}

/** The keys that may stand directly below a path; empty where any name may, or none. */
export function keysBelow(path: readonly string[]): readonly string[] {
  const below = configKeys
    .filter(key => key.path.length > path.length)
    .filter(key => path.every((part, at) => key.path[at] === anyName || key.path[at] === part))
    .map(key => key.path[path.length] ?? '');
  return [...new Set(below)].filter(name => name !== anyName);
}

/** `log.level` is `VARVE_LOG_LEVEL`. */
export function environmentName(key: ConfigKey): string {
  return `VARVE_${words(key).join('_').toUpperCase()}`;
}

/** `log.level` is `--log-level`. */
export function flagName(key: ConfigKey): string {
  return `--${words(key).join('-')}`;
}

function words(key: ConfigKey): string[] {
  return key.path.flatMap(part => part.split(/(?=[A-Z])/)).map(word => word.toLowerCase());
}

function* keysOf(schema: z.core.$ZodType, path: readonly string[]): Generator<ConfigKey> {
  const note = notes.get(schema);
  if (note !== undefined) {
    const defaultText = note.defaultText ?? defaultOf(schema);
    const inner = unwrapped(schema);
    yield {
      key: path.join('.'),
      path,
      type: typeOf(inner),
      kind: kindOf(inner),
      elementType: inner instanceof z.ZodRecord ? typeOf(inner.valueType) : null,
      defaultText,
      unit: note.unit ?? null,
      doc: note.doc,
    };
    return;
  }
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodRecord) yield* keysOf(inner.valueType, [...path, anyName]);
  if (inner instanceof z.ZodObject) {
    for (const [name, child] of Object.entries<z.core.$ZodType>(inner.shape))
      yield* keysOf(child, [...path, name]);
  }
}

function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  const wrapped =
    schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional;
  return wrapped ? unwrapped(schema.unwrap()) : schema;
}

function defaultOf(schema: z.core.$ZodType): string | null {
  if (!(schema instanceof z.ZodDefault)) return null;
  const value = schema.def.defaultValue;
  return typeof value === 'object' ? 'none' : String(value);
}

function kindOf(schema: z.core.$ZodType): ConfigKey['kind'] {
  if (schema instanceof z.ZodNumber) return 'number';
  return schema instanceof z.ZodBoolean ? 'boolean' : 'text';
}

function typeOf(schema: z.core.$ZodType): string {
  if (schema instanceof z.ZodEnum) return schema.options.join(' or ');
  if (schema instanceof z.ZodNumber) return `a whole number from ${schema.minValue} to ${schema.maxValue}`;
  if (schema instanceof z.ZodBoolean) return 'true or false';
  return schema instanceof z.ZodRecord ? 'names with texts' : 'text';
}
