import { InvalidArgument } from '../errors/errors.ts';
import { nearest } from '../lib/nearest.ts';
import { type ConfigKey, environmentName, flagName, scalarKeys } from './keys.ts';

/** Variables that are not keys: the file to read, the socket that the CLI talks to, and where tests inject faults. */
const reservedVariables = ['VARVE_CONFIG', 'VARVE_SOCKET', 'VARVE_FAULTS'];

/** A key that a flag or a variable sets. */
export interface Override {
  readonly key: ConfigKey;
  readonly text: string;
  readonly source: string;
}

/** The variables that have a value. */
export function nonEmpty(environment: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const given = Object.entries(environment).filter(
    (entry): entry is [string, string] => (entry[1] ?? '') !== '',
  );
  return Object.fromEntries(given);
}

/** @throws InvalidArgument for a `VARVE_*` that is neither a key nor reserved */
export function refuseUnknownVariables(environment: Readonly<Record<string, string>>): void {
  const known = [...scalarKeys.map(environmentName), ...reservedVariables];
  const unknown = Object.keys(environment).filter(name => name.startsWith('VARVE_') && !known.includes(name));
  if (unknown.length === 0) return;
  const sentences = unknown.map(name => {
    const near = nearest(
      name.slice('VARVE_'.length),
      known.map(other => other.slice('VARVE_'.length)),
    );
    const way = near === undefined ? `varve knows ${known.join(', ')}` : `did you mean VARVE_${near}?`;
    return `${name} is not a variable that varve knows; ${way}`;
  });
  throw new InvalidArgument(sentences.join('\n'));
}

/** What flags and variables set; where both set a key, the flag. */
export function overridesFrom(
  flags: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string>>,
): Override[] {
  return scalarKeys.flatMap(key => {
    const flag = flags[key.key];
    if (flag !== undefined) return [{ key, text: flag, source: flagName(key) }];
    const variable = environment[environmentName(key)];
    return variable === undefined ? [] : [{ key, text: variable, source: environmentName(key) }];
  });
}

/** The configuration of the file with the overrides put in. */
export function withOverrides(fromFile: unknown, overrides: readonly Override[]): unknown {
  const merged = structuredClone(fromFile);
  for (const { key, text } of overrides) {
    put(merged, key.path, literal(key, text));
  }
  return merged;
}

/** A text that is no value of the key stays a text: the schema then refuses it. */
function literal({ kind }: ConfigKey, text: string): unknown {
  if (kind === 'number' && /^-?\d{1,15}$/.test(text)) return Number(text);
  if (kind === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** A parent that is no map stays as it is: the schema then refuses it. */
function put(target: unknown, path: readonly string[], value: unknown): void {
  const [name, ...rest] = path;
  if (name === undefined || typeof target !== 'object' || target === null) return;
  const map = target as Record<string, unknown>;
  if (rest.length === 0) map[name] = value;
  else {
    map[name] ??= {};
    put(map[name], rest, value);
  }
}
