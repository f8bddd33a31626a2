/**
 * The configuration of containerd (docs/man/containerd-config.toml.5.md), as far as varve has to read and write it.
 * Files of a person are read and never changed: what varve needs stands in a file of its own, which they import.
 */
import type { SetupLine } from './view.ts';

/** What varve needs to know of a containerd's configuration. */
export interface ContainerdConfig {
  /** Version 1 has no `version` and calls plugins by their short names. */
  readonly version: 1 | 2;
  /** Patterns of the files that it imports, as they are written. */
  readonly imports: readonly string[];
  /** The text of the `imports`, which may have several lines; null when there are none. */
  readonly importsText: string | null;
}

/** Reads what stands before the first table, where both keys have to be (TOML 1.0, "Table"). */
export function readContainerdConfig(text: string): ContainerdConfig {
  const top = text.slice(0, /^[ \t]*\[/m.exec(withoutArrays(text))?.index ?? text.length);
  const importsText = /^[ \t]*imports[ \t]*=[ \t]*\[[^\]]*\]/m.exec(top)?.[0] ?? null;
  const isFirst = !/^[ \t]*version[ \t]*=[ \t]*[2-9]/m.test(top);
  return { version: isFirst ? 1 : 2, imports: textsIn(importsText ?? ''), importsText };
}

/** The same text, the same length, where no line of an array over several lines looks like a table. */
function withoutArrays(text: string): string {
  return text.replaceAll(/=[ \t]*\[[^\]]*\]/g, array => array.replaceAll('[', ' '));
}

/** What a program needs to know of itself and of its present configuration to be given another one. */
export interface ContainerdFacts {
  readonly major: number;
  readonly minor: number;
  readonly configVersion: 1 | 2;
  /** What `containerd config dump` prints. */
  readonly dump: string;
  /** As in `linux/amd64`. */
  readonly platform: string;
  /** Where the layers are. */
  readonly root: string;
}

/** Proxies of the type `diff` came with 1.7; 1.6 ends with a panic when it finds one. */
export function takesDiffer({ major, minor }: Pick<ContainerdFacts, 'major' | 'minor'>): boolean {
  return major > 1 || minor >= 7;
}

/** The name of varve's differ beside a snapshotter. */
export function differOf(snapshotter: string): string {
  return `${snapshotter}-diff`;
}

export const ownHeader = '# Written by `varve engine setup containerd`, which writes it anew.';

/** The file that makes a containerd know a snapshotter of varve and, where it can, its differ. */
export function dropInOf(facts: ContainerdFacts, snapshotter: string, socket: string): string {
  const differ = differOf(snapshotter);
  const isFirst = facts.configVersion === 1 && facts.major < 2;
  const parts = [
    ownHeader,
    ...(isFirst ? [] : ['version = 2']),
    '',
    ...proxy(snapshotter, 'snapshot', socket, facts.root),
  ];
  if (takesDiffer(facts)) {
    const others = orderOfDiffers(facts.dump).filter(name => name !== differ);
    parts.push(...proxy(differ, 'diff', socket), ...diffService([differ, ...others], isFirst));
    // Version 1 of the configuration has no word for it.
    if (!isFirst) parts.push(...transfer(facts, snapshotter, differ));
  }
  return parts.join('\n');
}

/** @param root of the layers: Kubernetes asks how full that file system is (CRI, ImageFsInfo) */
function proxy(name: string, type: string, socket: string, root?: string): readonly string[] {
  const table = `proxy_plugins.${JSON.stringify(name)}`;
  const exported = root === undefined ? [] : ['', `[${table}.exports]`, `root = ${JSON.stringify(root)}`];
  return [`[${table}]`, `type = "${type}"`, `address = ${JSON.stringify(socket)}`, ...exported, ''];
}

/** The first differ that takes a mount is the one that works on it; varve's takes its own only. */
function diffService(differs: readonly string[], isFirst: boolean): readonly string[] {
  const section = isFirst ? 'diff-service' : '"io.containerd.service.v1.diff-service"';
  return [`[plugins.${section}]`, `default = [${differs.map(name => JSON.stringify(name)).join(', ')}]`, ''];
}

/**
 * The transfer service (`ctr images import` and `pull`, nerdctl) unpacks only for snapshotters that it lists, each with
 * its differ. The list takes the place of the one before, which has to be in it; so does, before 2.0, the section.
 */
function transfer(facts: ContainerdFacts, snapshotter: string, differ: string): readonly string[] {
  const id = 'io.containerd.transfer.v1.local';
  const section = sectionOf(facts.dump, `plugins.${id}`);
  const settings = facts.major < 2 ? section.filter(line => /^\w+ = /.test(line)) : [];
  const listed = unpackersIn(facts.dump, `plugins.${id}.unpack_config`);
  const others = listed.filter(unpacker => unpacker['snapshotter'] !== JSON.stringify(snapshotter));
  // What it does without a list: an empty one would switch that off.
  const usual = { platform: JSON.stringify(facts.platform), snapshotter: '"overlayfs"', differ: '"walking"' };
  const ours = { ...usual, snapshotter: JSON.stringify(snapshotter), differ: JSON.stringify(differ) };
  const all = [...(others.length > 0 ? others : [usual]), ours].flatMap(unpacker => [
    `[[plugins."${id}".unpack_config]]`,
    // Left open, the differ would be whichever containerd finds first.
    ...Object.entries({ differ: usual.differ, ...unpacker })
      .map(([key, value]) => `${key} = ${value}`)
      .sort(),
    '',
  ]);
  return [...(settings.length > 0 ? [`[plugins."${id}"]`, ...settings, ''] : []), ...all];
}

type Unpacker = Readonly<Record<string, string>>;

function unpackersIn(dump: string, name: string): readonly Unpacker[] {
  return tablesOf(dump)
    .filter(table => table.name === name)
    .map(({ lines }) => Object.fromEntries(lines.flatMap(pairIn)));
}

function pairIn(line: string): readonly (readonly [string, string])[] {
  const [, key, value] = /^(\w+) = (.+)$/.exec(line) ?? [];
  const isSet = key !== undefined && value !== undefined && !/^(""|''|\[\])$/.test(value);
  return isSet ? [[key, inQuotes(value)]] : [];
}

function orderOfDiffers(dump: string): readonly string[] {
  const [line] = sectionOf(dump, 'plugins.io.containerd.service.v1.diff-service').filter(text =>
    text.startsWith('default = '),
  );
  const found = textsIn(line ?? '');
  return found.length > 0 ? found : ['walking'];
}

/** Whether a configuration, as dumped, has a snapshotter of varve at this socket. */
export function knows(dump: string, snapshotter: string, socket: string): boolean {
  const lines = sectionOf(dump, `proxy_plugins.${snapshotter}`);
  return lines.map(inQuotes).includes(`address = ${JSON.stringify(socket)}`);
}

/** Whether its CRI plugin is on, whose snapshotter is a setting of its own. */
export function servesKubernetes(dump: string): boolean {
  const disabled = tablesOf(dump)[0]?.lines.find(line => line.startsWith('disabled_plugins = ')) ?? '';
  return !disabled.includes('.cri') && /plugins\.["']io\.containerd\.(grpc\.v1\.cri|cri\.v1)/.test(dump);
}

interface Table {
  /** Without quotes: `plugins.io.containerd.service.v1.diff-service`. */
  readonly name: string;
  readonly lines: readonly string[];
}

function sectionOf(dump: string, name: string): readonly string[] {
  return tablesOf(dump).find(table => table.name === name)?.lines ?? [];
}

/** The tables of a dump, in which each key has a line of its own; what stands before the first has no name. */
function tablesOf(dump: string): readonly Table[] {
  const tables: { readonly name: string; readonly lines: string[] }[] = [{ name: '', lines: [] }];
  for (const line of dump.split('\n').map(text => text.trim())) {
    const name = /^\[\[?([^\]]+)\]\]?$/.exec(line)?.[1];
    if (name !== undefined) tables.push({ name: name.replaceAll(/["']/g, ''), lines: [] });
    else if (line !== '') tables.at(-1)?.lines.push(line);
  }
  return tables;
}

/** 2.x prints literal texts ('…'), which the file shall not mix with others. */
function inQuotes(text: string): string {
  return text.replaceAll(/'([^']*)'/g, (_, literal: string) => JSON.stringify(literal));
}

function textsIn(text: string): readonly string[] {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'/g)].map(([, basic, literal]) => basic ?? literal ?? '');
}

/** Whether a pattern of `imports`, made absolute, takes in a file: `*` and `?` stand for no slash (filepath.Match). */
export function imports(pattern: string, path: string): boolean {
  const parts = pattern.replaceAll(/[\\^$.+()|{}]/g, String.raw`\$&`);
  return new RegExp(`^${parts.replaceAll('*', '[^/]*').replaceAll('?', '[^/]')}$`).test(path);
}

/** The line that a file without it needs, so that `path` is imported. */
export function importLine(config: ContainerdConfig, file: string, path: string): SetupLine {
  const line = `imports = [${[...config.imports, path].map(text => JSON.stringify(text)).join(', ')}]`;
  return { path: file, line, replaces: config.importsText?.trim() ?? null };
}

/** The same configuration with other imports: what a person's change will make of it. */
export function withImports(text: string, config: ContainerdConfig, patterns: readonly string[]): string {
  const line = `imports = [${patterns.map(pattern => JSON.stringify(pattern)).join(', ')}]`;
  return config.importsText === null ? `${line}\n${text}` : text.replace(config.importsText, () => line);
}
