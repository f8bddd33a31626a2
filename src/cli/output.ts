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
  const { stringify } = await import('./yaml.ts');
  return stringify(data);
}

/** Aligned columns under a header, without borders; the same on a terminal and in a pipe. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows].flatMap(linesOf);
  const widths = header.map((_title, at) =>
    lines.reduce((widest, line) => Math.max(widest, line[at]?.columns ?? 0), 0),
  );
  const padded = ({ text, columns }: Cell, at: number) =>
    text + ' '.repeat(Math.max(0, (widths[at] ?? 0) - columns));
  return lines.map(line => line.map(padded).join('   ').trimEnd()).join('\n');
}

interface Cell {
  readonly text: string;
  /** How wide a terminal shows it. */
  readonly columns: number;
}

/** A row has as many lines as its highest cell. */
function linesOf(row: readonly string[]): readonly (readonly Cell[])[] {
  const cells = row.map(text => printable(text).split('\n'));
  const height = Math.max(1, ...cells.map(lines => lines.length));
  return Array.from({ length: height }, (_, at) =>
    cells.map(lines => ({ text: lines[at] ?? '', columns: columnsOf(lines[at] ?? '') })),
  );
}

const graphemes = new Intl.Segmenter();

/** What terminals show two columns wide (Unicode, UAX #11): emoji, and the scripts of East Asia. */
const wide =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}])/u;

function columnsOf(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of graphemes.segment(text)) columns += wide.test(segment) ? 2 : 1;
  return columns;
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
