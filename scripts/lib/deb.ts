import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { InvalidArgument } from '../../src/errors/errors.ts';
import { maintainer, sealTree } from './deb-control.ts';
import { repository } from './paths.ts';
import { must, run } from './process.ts';
import { stageNode, stageProgram } from './stage.ts';

export interface DebOptions {
  /** The program's version, as in package.json. */
  readonly version: string;
  /** `none` is for tests, which have no minute to spare. */
  readonly compression: 'xz' | 'none';
}

const packaging = join(repository, 'packaging');

/** What of `packaging` goes where; gzipped where the name ends so. */
const files: Readonly<Record<string, string>> = {
  'debian/varve': 'usr/bin/varve',
  'debian/config.yaml': 'etc/varve/config.yaml',
  'debian/varve.8': 'usr/share/man/man8/varve.8.gz',
  'debian/copyright': 'usr/share/doc/varve/copyright',
  'debian/lintian-overrides': 'usr/share/lintian/overrides/varve',
  'systemd/varve.socket': 'usr/lib/systemd/system/varve.socket',
  'systemd/varve.service': 'usr/lib/systemd/system/varve.service',
};

/**
 * Makes `varve_VERSION_ARCH.deb` in a directory: varve with its own Node. Two builds of one commit are the same
 * byte for byte, as SOURCE_DATE_EPOCH wants it. The packages that were there go when it is whole.
 * @returns the path of the package
 */
export async function buildDeb(directory: string, { version, compression }: DebOptions): Promise<string> {
  const [epoch, architecture] = [await sourceDate(), await debianArchitecture()];
  const debVersion = debianVersion(version);
  const deb = join(directory, `varve_${debVersion}_${architecture}.deb`);
  const draft = join(directory, `new.${process.pid}.deb`);
  const scratch = await mkdtemp(join(tmpdir(), 'varve-deb-'));
  try {
    const root = join(scratch, 'root');
    await fillProgram(root, version);
    for (const [from, to] of Object.entries(files))
      await put(root, to, await readFile(join(packaging, from)));
    await fillDocs(root, debVersion, epoch);
    await sealTree(root, { version: debVersion, architecture });
    await must('dpkg-deb', ['--root-owner-group', `-Z${compression}`, '--build', root, draft], {
      env: { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(epoch) },
      timeoutMs: 10 * 60_000,
    });
    await rename(draft, deb);
    const others = (await readdir(directory)).filter(name => /^varve_.*\.deb$/.test(name));
    for (const name of others) if (name !== basename(deb)) await rm(join(directory, name));
    return deb;
  } finally {
    await rm(draft, { force: true });
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The program in /usr/lib/varve, and the completion script that it prints. */
async function fillProgram(root: string, version: string): Promise<void> {
  const program = join(root, 'usr/lib/varve');
  await stageProgram(program);
  await setVersion(join(program, 'package.json'), version);
  const node = join(program, 'bin/node');
  await stageNode(node);
  const script = join(program, 'dist/cli/varve.js');
  const { stdout } = await must(node, [script, 'completion', 'bash'], { env: { PATH: process.env.PATH } });
  await put(root, 'usr/share/bash-completion/completions/varve', stdout);
}

async function setVersion(manifest: string, version: string): Promise<void> {
  const content = JSON.parse(await readFile(manifest, 'utf8')) as object;
  await writeFile(manifest, `${JSON.stringify({ ...content, version }, null, 2)}\n`);
}

async function fillDocs(root: string, version: string, epoch: number): Promise<void> {
  const docs = 'usr/share/doc/varve';
  const program = join(root, 'usr/lib/varve');
  const licenses = await readFile(join(program, 'THIRD-PARTY-LICENSES'));
  await put(root, `${docs}/THIRD-PARTY-LICENSES.gz`, licenses);
  // Debian has both among its documentation; the licence itself is in /usr/share/common-licenses.
  for (const name of ['THIRD-PARTY-LICENSES', 'LICENSE']) await rm(join(program, name));
  await put(root, `${docs}/changelog.gz`, await readFile(join(repository, 'CHANGELOG.md')));
  const date = new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
  const entry = `varve (${version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- ${maintainer}  ${date}\n`;
  await put(root, `${docs}/changelog.Debian.gz`, entry);
}

async function put(root: string, path: string, content: string | Buffer): Promise<void> {
  const target = join(root, path);
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, path.endsWith('.gz') ? gzipSync(content, { level: 9 }) : content);
}

/** `1.2.0-rc.1` is older than `1.2.0`: Debian says so with a tilde (deb-version(7)). */
function debianVersion(version: string): string {
  if (!/^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$/.test(version))
    throw new InvalidArgument(`${version} is not a version that a package can have; use N.N.N or N.N.N-NAME`);
  return `${version.replace('-', '~')}-1`;
}

async function debianArchitecture(): Promise<string> {
  return (await must('dpkg', ['--print-architecture'])).stdout.trim();
}

/** Seconds since 1970. @throws InvalidArgument when nothing says which */
async function sourceDate(): Promise<number> {
  const given = process.env.SOURCE_DATE_EPOCH;
  const text = given ?? (await commitDate());
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgument(
    given === undefined
      ? 'git says of no commit when this was made; install git, or set SOURCE_DATE_EPOCH to a number of seconds since 1970'
      : `SOURCE_DATE_EPOCH is "${given}"; it must be a number of seconds since 1970`,
  );
}

/** Empty without git, or where nothing was committed. */
async function commitDate(): Promise<string> {
  // Root builds in the checkout of somebody else, of which git reads nothing by default.
  const log = ['-c', `safe.directory=${repository}`, '-C', repository, 'log', '-1', '--format=%ct'];
  const answer = await run('git', log).catch(() => undefined);
  return answer?.stdout.trim() ?? '';
}
