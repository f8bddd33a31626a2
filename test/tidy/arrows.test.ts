import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { nodeBinary, repository } from '../../scripts/lib/paths.ts';
import { run } from '../../scripts/lib/process.ts';

const folders = [
  ...(['errors', 'lib', 'core', 'config', 'store', 'wire', 'host', 'tar'] as const),
  ...(['drivers', 'servers', 'cli'] as const),
];
type Folder = (typeof folders)[number];

/** What each folder may import; `type` marks a folder of which it may import types only. */
const allowed: Record<Folder, Partial<Record<Folder, 'all' | 'type'>>> = {
  errors: {},
  lib: { errors: 'all' },
  core: { errors: 'all', lib: 'all' },
  config: { core: 'all', errors: 'all', lib: 'all' },
  store: { core: 'type', errors: 'all', lib: 'all' },
  wire: {},
  host: { core: 'type', errors: 'all', lib: 'all', wire: 'all' },
  tar: { core: 'type', errors: 'all', lib: 'all' },
  drivers: { core: 'all', errors: 'all', host: 'all', lib: 'all', tar: 'all' },
  servers: { core: 'all', errors: 'all', lib: 'all', wire: 'all' },
  cli: { config: 'all', core: 'type', errors: 'all', lib: 'all' },
};

const pairs = folders.flatMap(from => folders.filter(to => to !== from).map(to => [from, to] as const));

/** Each planted import has a file of its own, so that the file says which one was caught. */
const planted = new Map<string, string>([
  ...folders.map(
    folder => [`src/${folder}/target.ts`, 'export const value = 1;\nexport type Kind = number;\n'] as const,
  ),
  ...pairs.flatMap(([from, to]) => [
    [`src/${from}/value-of-${to}.ts`, `export { value } from '../${to}/target.ts';\n`] as const,
    [`src/${from}/type-of-${to}.ts`, `export type { Kind } from '../${to}/target.ts';\n`] as const,
  ]),
  [
    'src/main.ts',
    "export { value } from './host/target.ts';\nexport { value as stored } from './store/target.ts';\n",
  ],
  ['src/cli/loads-main.ts', "export const main = () => import('../main.ts');\n"],
  ['src/servers/loads-main.ts', "export const main = () => import('../main.ts');\n"],
  ['src/core/uses-builtin.ts', "export { readFileSync } from 'node:fs';\n"],
  ['src/core/uses-package.ts', "export { parse } from 'yaml';\n"],
  ['src/lib/uses-builtin.ts', "export { readFileSync } from 'node:fs';\n"],
  ['src/lib/uses-development-package.ts', "export { expect } from 'chai';\n"],
  ['src/lib/uses-test.ts', "export { help } from '../../test/help.ts';\n"],
  ['src/lib/circle-a.ts', "import { b } from './circle-b.ts';\nexport const a = () => b;\n"],
  ['src/lib/circle-b.ts', "import { a } from './circle-a.ts';\nexport const b = () => a;\n"],
  ['test/help.ts', 'export const help = 1;\n'],
]);

interface Cruise {
  readonly summary: {
    readonly violations: { readonly from: string; readonly rule: { readonly name: string } }[];
  };
}

/** The files of which the real configuration says that an import is forbidden, with the rules they break. */
async function cruise(directory: string): Promise<ReadonlyMap<string, string>> {
  for (const [path, text] of planted) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  }
  for (const name of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json']) {
    await copyFile(join(repository, name), join(directory, name));
  }
  await symlink(join(repository, 'node_modules'), join(directory, 'node_modules'));
  const program = join(repository, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const config = ['--config', '.dependency-cruiser.cjs', '--output-type', 'json'];
  const { stdout } = await run(nodeBinary, [program, ...config, 'src'], { cwd: directory });
  const { violations } = (JSON.parse(stdout) as Cruise).summary;
  return new Map(violations.map(({ from, rule }) => [from, rule.name]));
}

describe('the arrows between the folders of src', () => {
  let directory: string;
  let caught: ReadonlyMap<string, string>;

  before(async function () {
    this.timeout(60_000);
    directory = await mkdtemp(join(tmpdir(), 'varve-arrows-'));
    caught = await cruise(directory);
  });
  after(() => rm(directory, { recursive: true, force: true }));

  for (const [from, to] of pairs) {
    const right = allowed[from][to];
    const says =
      right === 'all' ? 'may import' : right === 'type' ? 'may import types only of' : 'may not import';
    it(`${from} ${says} ${to}`, () => {
      expect(caught.has(`src/${from}/value-of-${to}.ts`), 'a value').to.equal(right !== 'all');
      expect(caught.has(`src/${from}/type-of-${to}.ts`), 'a type').to.equal(right === undefined);
    });
  }

  it('the command alone may load main.ts', () => {
    expect(caught.has('src/cli/loads-main.ts')).to.equal(false);
    expect(caught.get('src/servers/loads-main.ts')).to.equal('servers-arrows');
    expect(caught.has('src/main.ts')).to.equal(false);
  });

  it('core imports neither a package nor a module of Node', () => {
    expect(caught.get('src/core/uses-builtin.ts')).to.equal('core-is-pure');
    expect(caught.get('src/core/uses-package.ts')).to.equal('core-is-pure');
    expect(caught.has('src/lib/uses-builtin.ts')).to.equal(false);
  });

  it('src imports nothing that is not shipped, and no circle', () => {
    expect(caught.get('src/lib/uses-development-package.ts')).to.equal('no-development-packages');
    expect(caught.get('src/lib/uses-test.ts')).to.equal('src-stands-alone');
    expect([...caught.values()]).to.include('no-cycles');
  });
});
