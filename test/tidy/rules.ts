import ts from 'typescript';

/** A file of the repository: its path from the root, and its text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** Something that must never be in the repository. */
export interface TidyRule {
  readonly name: string;
  applies(path: string): boolean;
  /** What is wrong, each as `LINE: what`. */
  find(file: SourceFile): readonly string[];
  /** A file that breaks the rule, and one that does not: the rule's own test. */
  readonly bad: SourceFile;
  readonly good: SourceFile;
}

const inSource = (path: string) => path.startsWith('src/') && path.endsWith('.ts');
const isCode = (path: string) => /^(src|scripts|plugin|test|bench)\/.*\.ts$/.test(path);
const isTest = (path: string) => /^test\/(?!support\/).*\.ts$/.test(path);

/** Finds the lines that match a pattern. */
function lines(pattern: RegExp): TidyRule['find'] {
  return ({ text }) =>
    text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${index + 1}: ${line.trim()}`] : []));
}

/** Visits every node of a file's syntax tree. */
function nodes(
  file: SourceFile,
  visit: (node: ts.Node, tree: ts.SourceFile) => string | undefined,
): readonly string[] {
  const tree = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.ESNext, true);
  const found: string[] = [];
  const walk = (node: ts.Node): void => {
    const problem = visit(node, tree);
    if (problem !== undefined) found.push(`${lineOf(tree, node.getStart(tree))}: ${problem}`);
    ts.forEachChild(node, walk);
  };
  walk(tree);
  return found;
}

function lineOf(tree: ts.SourceFile, position: number): number {
  return tree.getLineAndCharacterOfPosition(position).line + 1;
}

function recursiveDelete(node: ts.Node, tree: ts.SourceFile): string | undefined {
  if (!ts.isCallExpression(node)) return undefined;
  const callee = node.expression.getText(tree);
  if (!/\b(rm|rmSync|rmdir|rmdirSync|remove|removeSync|emptyDir|rimraf)$/.test(callee)) return undefined;
  const recursive = node.arguments.some(argument =>
    /\brecursive\s*:(?!\s*false\b)/.test(argument.getText(tree)),
  );
  return recursive || callee === 'rimraf' ? node.getText(tree) : undefined;
}

function longFunction(node: ts.Node, tree: ts.SourceFile): string | undefined {
  if (!ts.isFunctionLike(node) || !('body' in node) || node.body === undefined) return undefined;
  const length = lineOf(tree, node.end) - lineOf(tree, node.getStart(tree)) + 1;
  return length > 70 ? `a function of ${length} lines` : undefined;
}

export const rules: readonly TidyRule[] = [
  {
    name: 'only src/host starts processes or calls the system directly',
    applies: path => inSource(path) && !path.startsWith('src/host/'),
    find: lines(/(from|import|require)\s*\(?\s*['"](node:)?(child_process|koffi)['"]/),
    bad: { path: 'src/core/a.ts', text: "import { spawn } from 'node:child_process';" },
    good: { path: 'src/host/linux/a.ts', text: "import koffi from 'koffi';" },
  },
  {
    name: 'no command goes through a shell',
    applies: isCode,
    find: lines(/(?<![.\w#])exec(Sync)?\(|\bexecSync\b|child_?process\.exec\b|\bshell:\s*(true|['"`])/i),
    bad: { path: 'scripts/a.ts', text: "spawn('ls', { shell: true });" },
    good: { path: 'scripts/a.ts', text: "const match = /a/.exec('a'); database.exec('select 1');" },
  },
  {
    name: 'only host/linux/remove-tree.ts deletes recursively',
    applies: path => inSource(path) && path !== 'src/host/linux/remove-tree.ts',
    find: file => nodes(file, recursiveDelete),
    bad: { path: 'src/lib/a.ts', text: 'await rm(path, {\n  force: true,\n  recursive: true,\n});' },
    good: { path: 'src/lib/a.ts', text: 'await rm(path); await mkdir(path, { recursive: true });' },
  },
  {
    name: 'core reads no clock and imports no module of Node',
    applies: path => path.startsWith('src/core/'),
    find: lines(/\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|['"]node:/),
    bad: { path: 'src/core/a.ts', text: 'const now = new Date();' },
    good: { path: 'src/core/a.ts', text: 'const then = new Date(record.createdAt);' },
  },
  {
    name: 'only the command prints',
    applies: path => inSource(path) && !path.startsWith('src/cli/'),
    find: lines(/\bconsole\.\w+\(|process\.stdout\.write/),
    bad: { path: 'src/servers/a.ts', text: 'console.log(1);' },
    good: { path: 'src/cli/a.ts', text: 'console.log(1);' },
  },
  {
    name: 'nothing is left to do',
    applies: path => !path.endsWith('.json'),
    find: lines(/\b(TODO|FIXME|XXX)\b/),
    bad: { path: 'docs/a.md', text: 'TODO: say more' },
    good: { path: 'docs/a.md', text: 'methodology' },
  },
  {
    name: 'no check of types is switched off',
    applies: isCode,
    find: lines(/@ts-(ignore|nocheck|expect-error)|\bas any\b/),
    bad: { path: 'src/lib/a.ts', text: '// @ts-ignore' },
    good: { path: 'src/lib/a.ts', text: 'const many: unknown = 1;' },
  },
  {
    name: 'no test excludes the others',
    applies: path => path.startsWith('test/'),
    find: lines(/\b(describe|context|suite|it|test|specify)\.only\(/),
    bad: { path: 'test/unit/a.test.ts', text: "it.only('a', () => {});" },
    good: { path: 'test/unit/a.test.ts', text: "it('a', () => {});" },
  },
  {
    name: 'no test skips without a reason',
    applies: isTest,
    find: lines(/\b(describe|context|it)\.skip\(|\bxit\(|\bxdescribe\(|\bthis\.skip\(/),
    bad: { path: 'test/unit/a.test.ts', text: 'this.skip();' },
    good: { path: 'test/unit/a.test.ts', text: "skip(this, 'engine of sid: gone');" },
  },
  {
    name: 'no test sleeps',
    applies: isTest,
    find: lines(
      /timers\/promises|await .*\bsetTimeout\(|new Promise\b.*\bsetTimeout\b|\b(sleep|delay)\(\s*\d/,
    ),
    bad: { path: 'test/unit/a.test.ts', text: 'await new Promise(resolve => setTimeout(resolve, 100));' },
    good: { path: 'test/unit/a.test.ts', text: "await until('it is done', 1000, () => done);" },
  },
  {
    name: 'no path of one machine and no address of a registry or mirror',
    applies: () => true,
    find: lines(
      /\/work\/|\/home\/\w|\b(registry|registry-1|index|hub|deb|security|auth)\.(npmjs|yarnpkg|docker|debian)\.(org|com|io)\b|\b(quay\.io|ghcr\.io|gcr\.io|pkg\.dev)\b/,
    ),
    bad: { path: 'docs/a.md', text: ['see /wo', 'rk/main'].join('') },
    good: { path: 'docs/a.md', text: 'apt-get install docker.io; git clone <repo>/work' },
  },
  {
    name: 'a file of src has at most 400 lines',
    applies: inSource,
    find: ({ text }) => (text.split('\n').length > 401 ? [`400: ${text.split('\n').length} lines`] : []),
    bad: { path: 'src/lib/a.ts', text: '\n'.repeat(500) },
    good: { path: 'src/lib/a.ts', text: '\n'.repeat(400) },
  },
  {
    name: 'a function has at most 70 lines',
    applies: path => /^(src|scripts|plugin|bench)\/.*\.ts$/.test(path),
    find: file => nodes(file, longFunction),
    bad: { path: 'src/lib/a.ts', text: `class A {\n  b() {${'\n'.repeat(70)}  }\n}` },
    good: {
      path: 'src/lib/a.ts',
      text: `class A {\n  b() {${'\n'.repeat(60)}  }\n  c() {${'\n'.repeat(60)}  }\n}`,
    },
  },
];

/** What a rule has against a file, with the file's path; nothing when it does not apply. */
export function violations(rule: TidyRule, file: SourceFile): readonly string[] {
  return rule.applies(file.path) ? rule.find(file).map(text => `${file.path}:${text}`) : [];
}
