import Table from 'cli-table3';
import { Option } from 'commander';
import { formatBytes } from '../core/quantity.ts';

export type Format = 'table' | 'json' | 'yaml';

/** `--format`, for a command that has a table or, without one, JSON by default. */
export function formatOption(formats: readonly Format[] = ['table', 'json', 'yaml']): Option {
  const [first] = formats;
  return new Option('--format <format>', 'how to print').choices([...formats]).default(first);
}

/** Prints data for a program, or what `text` makes of it for a person. */
export async function print<T>(format: Format, data: T, text: (data: T) => string): Promise<void> {
  const formatters = { table: () => text(data), json: () => toJson(data), yaml: () => toYaml(data) };
  printLine((await formatters[format]()).trimEnd());
}

export function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function toJson(data: unknown): string {
  return JSON.stringify(data, null, 2);
}

async function toYaml(data: unknown): Promise<string> {
  const { stringify } = await import('yaml');
  return stringify(data);
}

const bare = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '   ' },
};

/** Aligned columns under a header, without borders; the same on a terminal and in a pipe. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const style = { 'padding-left': 0, 'padding-right': 0, head: [], border: [] };
  const made = new Table({ head: [...header], chars: bare, style });
  made.push(...rows.map(row => row.map(printable)));
  return made
    .toString()
    .split('\n')
    .map(line => line.trimEnd())
    .join('\n');
}

/** Text from elsewhere without what a terminal would obey; line breaks stay. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach the terminal
  return text.replaceAll(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/g, control => {
    return `\\x${control.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

/** Bytes for people, or `-` when they are not known. */
export function size(bytes: number | null | undefined): string {
  return bytes === null || bytes === undefined ? '-' : formatBytes(bytes);
}

const units = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const;

/** A time (RFC 3339) as seen from `now`: `3 hours ago`. */
export function ago(time: string, now: Date): string {
  const seconds = Math.round((now.getTime() - Date.parse(time)) / 1000);
  if (Number.isNaN(seconds)) return time;
  const [unit, length] = units.find(([, length]) => Math.abs(seconds) >= length) ?? ['second', 1];
  const count = Math.floor(Math.abs(seconds) / length);
  const span = `${count} ${unit}${count === 1 ? '' : 's'}`;
  return seconds < 0 ? `in ${span}` : `${span} ago`;
}

/** How far a copy is: `[#######-------------] 35%, 3.5 GiB of 10.0 GiB`. */
export function progressBar({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }): string {
  const width = 20;
  const share = totalBytes > 0 ? Math.min(1, doneBytes / totalBytes) : 0;
  const filled = Math.floor(share * width);
  const bar = '#'.repeat(filled) + '-'.repeat(width - filled);
  return `[${bar}] ${Math.floor(share * 100)}%, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
}
