import { InvalidArgument } from '../../errors/errors.ts';
import { nearest } from '../../lib/nearest.ts';
import { type PoolName, parsePoolName, show } from '../names.ts';
import type { Attributes } from '../ports.ts';
import { parseSize } from '../quantity.ts';

/** What a caller asks of a new volume. */
export interface VolumeRequest {
  readonly attributes: Partial<Attributes>;
  readonly pool?: PoolName;
  readonly protect: boolean;
  /** Absolute path of a host directory to copy. */
  readonly fromPath?: string;
  readonly sizeBytes?: number;
}

interface Option {
  readonly form: string;
  readonly doc: string;
}

/** Every option of `docker volume create -o`, in the order in which help shows them. */
export const volumeOptions: Readonly<Record<string, Option>> = {
  uid: { form: 'NUMBER', doc: 'owner of the root directory of the volume (default 0)' },
  gid: { form: 'NUMBER', doc: 'group of the root directory (default 0)' },
  mode: { form: 'OCTAL', doc: 'permissions of the root directory, such as 0750 (default 0755)' },
  pool: { form: 'NAME', doc: 'the pool in which the volume lives' },
  size: { form: 'SIZE', doc: 'a hard limit, such as 10Gi; refused by a pool that cannot enforce one' },
  protect: { form: 'true|false', doc: 'refuse to remove the volume until `varve volume unprotect`' },
  'from-path': {
    form: 'DIRECTORY',
    doc: 'start with a copy of this directory of the host, made in the background',
  },
  help: { form: '', doc: 'show this list' },
};

/** Drops options with an empty value: they count as not given. */
export function givenOptions(options: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => value !== '' || name === 'help'),
  );
}

/**
 * Parses the options of a new volume; `options` are those that {@link givenOptions} left.
 * @throws InvalidArgument that names the option, and the nearest one for an unknown name
 */
export function parseOptions(options: Readonly<Record<string, string>>): VolumeRequest {
  for (const name of Object.keys(options)) checkKnown(name);
  if (options['help'] !== undefined) throw new InvalidArgument(optionsHelp());
  const { pool, size, 'from-path': fromPath } = options;
  return {
    attributes: parseAttributes(options),
    protect: parseBoolean('protect', options['protect'] ?? 'false'),
    ...(pool !== undefined && { pool: parsePoolName(pool) }),
    ...(fromPath !== undefined && { fromPath: parseHostPath(fromPath) }),
    ...(size !== undefined && { sizeBytes: parseSize(size) }),
  };
}

/** The text that `-o help` answers. */
function optionsHelp(): string {
  const lines = Object.entries(volumeOptions).map(([name, { form, doc }]) => {
    return `  ${`${name}${form === '' ? '' : `=${form}`}`.padEnd(22)} ${doc}`;
  });
  return `the options of a varve volume are:\n${lines.join('\n')}\nNothing was created.`;
}

/** The options in which two requests differ, described for a person; empty when they ask for the same. */
export function describeDifference(
  existing: Readonly<Record<string, string>>,
  asked: Readonly<Record<string, string>>,
): string {
  const names = [...new Set([...Object.keys(existing), ...Object.keys(asked)])].sort();
  return names
    .filter(name => existing[name] !== asked[name])
    .map(
      name => `${name} is ${show(existing[name] ?? 'not set')}, asked for ${show(asked[name] ?? 'not set')}`,
    )
    .join('; ');
}

function checkKnown(name: string): void {
  if (Object.hasOwn(volumeOptions, name)) return;
  const guess = nearest(name, Object.keys(volumeOptions));
  const hint = guess === undefined ? '.' : `; did you mean ${JSON.stringify(guess)}?`;
  const known = Object.keys(volumeOptions).join(', ');
  throw new InvalidArgument(
    `unknown option ${show(name)}${hint} The options are: ${known} (-o help explains them)`,
  );
}

function parseAttributes(options: Readonly<Record<string, string>>): Partial<Attributes> {
  const { uid, gid, mode } = options;
  return {
    ...(uid !== undefined && { uid: parseId('uid', uid) }),
    ...(gid !== undefined && { gid: parseId('gid', gid) }),
    ...(mode !== undefined && { mode: parseMode(mode) }),
  };
}

/** The highest id: 2^32 - 1 means "no change" to chown(2). */
const maxId = 2 ** 32 - 2;

function parseId(option: string, raw: string): number {
  if (/^[0-9]{1,10}$/.test(raw) && Number(raw) <= maxId) return Number(raw);
  throw new InvalidArgument(`option ${option}=${show(raw)} is not a numeric id between 0 and ${maxId}`);
}

function parseMode(raw: string): number {
  if (/^[0-7]{3,5}$/.test(raw) && Number.parseInt(raw, 8) <= 0o7777) return Number.parseInt(raw, 8);
  throw new InvalidArgument(`option mode=${show(raw)} is not an octal mode such as 0750`);
}

function parseBoolean(option: string, raw: string): boolean {
  if (raw === 'true' || raw === '1') return true;
  if (raw === 'false' || raw === '0') return false;
  throw new InvalidArgument(`option ${option}=${show(raw)} is neither true nor false`);
}

/** @returns the path without empty steps and `.` */
function parseHostPath(raw: string): string {
  const steps = raw.split('/').filter(step => step !== '' && step !== '.');
  if (raw.startsWith('/') && !raw.includes('\0') && !steps.includes('..')) return `/${steps.join('/')}`;
  throw new InvalidArgument(`option from-path=${show(raw)} is not an absolute path without ".."`);
}
