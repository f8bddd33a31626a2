import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { build, type Metafile } from 'esbuild';
import { builtinsByCall } from './builtins.ts';
import { nodeLicense, thirdPartyLicenses } from './licenses.ts';
import { installPackages } from './packages.ts';
import { nodeBinary, repository } from './paths.ts';
import { must } from './process.ts';

/** Packages with compiled parts, which no bundle can hold, and what of them runs here. */
const nativePackages: Readonly<Record<string, readonly string[]>> = {
  'better-sqlite3': ['lib', `prebuilds/linux-${process.arch}.node`, 'LICENSE'],
  koffi: ['index.js', 'index.cjs', 'src/koffi', 'LICENSE.txt'],
  [`@koromix/koffi-linux-${process.arch}`]: ['index.js', `linux_${process.arch}`],
};

/** CommonJS packages use these names, which an ES module does not have. */
const commonJsNames = [
  "import { createRequire as makeRequire } from 'node:module';",
  'const require = makeRequire(import.meta.url);',
  'const { dirname: __dirname, filename: __filename } = import.meta;',
].join('\n');

/** Sources of compiled parts stand among what runs. */
const isNeeded = (path: string) =>
  !/\.(cc|hh|inc|def|txt)$|\/abi$/.test(path) || path.endsWith('LICENSE.txt');

/**
 * Fills a directory with the program as it is shipped: `dist/cli/varve.js` with its chunks, the packages that
 * have compiled parts for this processor, `package.json` and the licences. It needs Node 22.15 or newer and
 * nothing else. It is made from `src`, so that `dist` need not be there.
 */
export async function stageProgram(directory: string): Promise<void> {
  const contained = await bundle(join(directory, 'dist/cli'));
  for (const [name, parts] of Object.entries(nativePackages)) {
    const [from, to] = [repository, directory].map(root => join(root, 'node_modules', name)) as [
      string,
      string,
    ];
    for (const part of ['package.json', ...parts]) {
      await cp(join(from, part), join(to, part), { recursive: true, filter: isNeeded });
    }
  }
  await writeManifest(directory);
  await cp(join(repository, 'LICENSE'), join(directory, 'LICENSE'));
  const licenses = await thirdPartyLicenses([...contained, ...Object.keys(nativePackages)]);
  await writeFile(join(directory, 'THIRD-PARTY-LICENSES'), licenses);
}

/**
 * Puts the Node that everything of ours is tested with at this path, without what only a debugger reads, and its
 * licences beside it, at `PATH.LICENSE`.
 */
export async function stageNode(path: string): Promise<void> {
  await installPackages(['binutils']);
  await mkdir(dirname(path), { recursive: true });
  await must('strip', ['-o', path, nodeBinary]);
  await cp(await nodeLicense(), `${path}.LICENSE`);
}

/** A thread that walks trees is started by the code beside it. */
export const treeWorker = { 'tree-worker': 'src/host/linux/tree-worker.ts' };
const shipped = { varve: 'src/cli/varve.ts', worker: 'src/worker.ts', ...treeWorker };

/**
 * Makes programs with their chunks in a directory, by default `varve.js` and the scripts of its worker threads, from
 * sources and the packages that have no compiled parts. The code finds `package.json` two levels above itself.
 * @param entryPoints sources by the names of the programs
 * @returns the packages whose code is in it
 */
export async function bundle(
  directory: string,
  entryPoints: Readonly<Record<string, string>> = shipped,
): Promise<readonly string[]> {
  const { metafile } = await build({
    absWorkingDir: repository,
    entryPoints,
    outdir: directory,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node22.15',
    external: ['better-sqlite3', 'koffi', '*.node'],
    plugins: [builtinsByCall],
    banner: { js: commonJsNames },
    // They stand in THIRD-PARTY-LICENSES, with the texts that the comments only refer to.
    legalComments: 'none',
    metafile: true,
    logLevel: 'error',
  });
  return packagesOf(metafile);
}

/** The packages whose code is in a bundle. */
function packagesOf({ outputs }: Metafile): readonly string[] {
  const inputs = Object.values(outputs).flatMap(output => Object.keys(output.inputs));
  return inputs.flatMap(path => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []);
}

async function writeManifest(directory: string): Promise<void> {
  const own = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as Record<string, unknown>;
  const kept = ['name', 'version', 'description', 'license', 'type', 'bin', 'engines'];
  const manifest = Object.fromEntries(kept.map(key => [key, own[key]]));
  await writeFile(join(directory, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}
