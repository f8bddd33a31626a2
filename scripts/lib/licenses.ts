import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheDirectory, repository } from './paths.ts';
import { must } from './process.ts';

/** Packages that bring no licence file, and a source of theirs that begins with the licence. */
const inSource: Readonly<Record<string, string>> = { '@bufbuild/protobuf': 'dist/esm/wire/varint.js' };

/** The licence texts of these packages of `node_modules`, in one text, as most of the licences demand. */
export async function thirdPartyLicenses(names: readonly string[]): Promise<string> {
  const unique = [...new Set(names)].sort();
  const sections = await Promise.all(unique.map(section));
  return `varve contains the following packages.\n\n${sections.join('\n')}`;
}

async function section(name: string): Promise<string> {
  const directory = join(repository, 'node_modules', name);
  const manifest = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8')) as {
    readonly version: string;
    readonly license?: string;
    readonly author?: string | { readonly name: string };
  };
  const files = (await readdir(directory)).filter(file => /^(licen[cs]e|copying|notice)/i.test(file)).sort();
  const texts = await Promise.all(files.map(file => readFile(join(directory, file), 'utf8')));
  const source = inSource[name];
  if (source !== undefined) texts.push(firstComment(await readFile(join(directory, source), 'utf8')));
  const author = typeof manifest.author === 'object' ? manifest.author.name : manifest.author;
  const by = author === undefined ? '' : `, by ${author}`;
  const heading = `${name} ${manifest.version}${by} (licence: ${manifest.license ?? 'see below'})`;
  return [`${'='.repeat(78)}\n${heading}\n`, ...texts.map(text => `${text.trim()}\n`)].join('\n');
}

/** The lines with `//` that a source begins with, as text. */
function firstComment(source: string): string {
  const [comment = ''] = /^(\/\/.*\n)*/.exec(source) ?? [];
  return comment.replace(/^\/\/ ?/gm, '');
}

/**
 * The licences of Node and of what is in it, as a file. Of the package that brings its program, only the program
 * is installed: the rest is fetched once.
 */
export function nodeLicense(): Promise<string> {
  fetched ??= fetchNodeLicense();
  return fetched;
}

let fetched: Promise<string> | undefined;

async function fetchNodeLicense(): Promise<string> {
  const manifest = await readFile(join(repository, 'node_modules/node/package.json'), 'utf8');
  const { version } = JSON.parse(manifest) as { readonly version: string };
  const kept = join(cacheDirectory, 'licenses', `node-${version}`);
  if (existsSync(kept)) return kept;
  const directory = await mkdtemp(join(tmpdir(), 'varve-node-'));
  try {
    const packed = await must(
      'npm',
      ['pack', '--silent', '--prefer-offline', `node-linux-${process.arch}@${version}`],
      { cwd: directory, timeoutMs: 5 * 60_000 },
    );
    await must('tar', ['--extract', '--file', packed.stdout.trim(), 'package/LICENSE'], { cwd: directory });
    await mkdir(join(cacheDirectory, 'licenses'), { recursive: true });
    await copyFile(join(directory, 'package/LICENSE'), `${kept}.${process.pid}`);
    await rename(`${kept}.${process.pid}`, kept);
    return kept;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
