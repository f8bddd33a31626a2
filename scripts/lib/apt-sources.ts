import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NotFound } from '../../src/errors/errors.ts';

/** An archive that apt uses. */
export interface Source {
  readonly uris: string;
  readonly suites: readonly string[];
  readonly options: readonly string[];
}

/** A source list, in the deb822 style, for one suite on the mirrors that this machine uses for its own. */
export async function sourcesOf(suite: string): Promise<string> {
  const { source } = await ownSource();
  return [
    'Types: deb',
    `URIs: ${source.uris}`,
    `Suites: ${suite}`,
    'Components: main',
    ...source.options,
    '',
  ].join('\n');
}

/** The suite that this machine runs, and an archive that has it. @throws NotFound when no source names it */
export async function ownSource(): Promise<{ readonly suite: string; readonly source: Source }> {
  const suite = /^VERSION_CODENAME=(\S+)$/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
  const source = (await machineSources()).find(({ suites }) => suites.includes(suite));
  if (source !== undefined) return { suite, source };
  throw new NotFound(`no source of this machine has the suite ${suite}; see /etc/apt/sources.list.d`);
}

async function machineSources(): Promise<readonly Source[]> {
  const directory = '/etc/apt/sources.list.d';
  const parts = (await readdir(directory).catch(() => [])).map(name => join(directory, name));
  const files = await Promise.all(
    ['/etc/apt/sources.list', ...parts].map(async path => ({
      path,
      text: await readFile(path, 'utf8').catch(() => ''),
    })),
  );
  return files.flatMap(({ path, text }) => {
    if (path.endsWith('.sources')) return text.split(/\n\s*\n/).map(parseStanza);
    return path.endsWith('.list') ? text.split('\n').flatMap(parseLine) : [];
  });
}

/** One stanza in the deb822 style (sources.list(5)). */
export function parseStanza(stanza: string): Source {
  const lines = stanza.split('\n').filter(line => !line.startsWith('#'));
  const field = (name: string) =>
    lines
      .find(line => line.startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trim() ?? '';
  const options = lines.filter(line => line.startsWith('Signed-By:') || line.startsWith('Trusted:'));
  return { uris: field('URIs'), suites: field('Suites').split(/\s+/), options };
}

/** One line in the old style (sources.list(5)). */
export function parseLine(line: string): readonly Source[] {
  const fields = /^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s/.exec(line);
  if (fields === null) return [];
  const [, bracket = '', uris = '', suite = ''] = fields;
  const keyring = /signed-by=(\S+)/.exec(bracket)?.[1];
  return [{ uris, suites: [suite], options: keyring === undefined ? [] : [`Signed-By: ${keyring}`] }];
}
