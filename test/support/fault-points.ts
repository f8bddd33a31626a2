import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { repository } from '../../scripts/lib/paths.ts';
import { isLong } from './long.ts';

/** What passes a point, and the points that its name stands for. */
const passers: Readonly<Record<string, (name: string) => readonly string[]>> = {
  step: around,
  stepSync: around,
  gate: name => [name],
  faultPoint: name => [name],
};

/**
 * Every fault point of the program, in order, as its source names them. Points whose names are put together when
 * they are passed belong to the caller of {@link faultPoint} and are left out.
 * @throws Error that names the place when a step, or a gate, has a name that cannot be read in the source
 */
export function faultPoints(): readonly string[] {
  const files = globSync('src/**/*.ts', { cwd: repository }).filter(file => file !== 'src/lib/fault.ts');
  const found = files.flatMap(file => pointsOf(file, readFileSync(join(repository, file), 'utf8')));
  return [...new Set(found)].sort();
}

/**
 * Whether a process is killed there. Before a step everything is as after the one before it, so that dying there is
 * tried among the repetitions only.
 */
export function killsAt(point: string): boolean {
  return isLong || !point.endsWith(':before');
}

/** The fault points of one source file. */
export function pointsOf(file: string, text: string): readonly string[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const imported = importedPassers(source);
  const points: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isIdentifier(node.expression)) {
      const passer = imported.get(node.expression.text);
      if (passer !== undefined) points.push(...pointsOfCall(file, source, node, passer));
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return points;
}

function pointsOfCall(
  file: string,
  source: ts.SourceFile,
  call: ts.CallExpression,
  passer: string,
): readonly string[] {
  const [name] = call.arguments;
  if (name !== undefined && ts.isStringLiteral(name)) return passers[passer]?.(name.text) ?? [];
  if (passer === 'faultPoint') return [];
  const line = source.getLineAndCharacterOfPosition(call.getStart()).line + 1;
  throw new Error(`${file}:${line}: the name in ${passer}() is not a literal, so that no test can find it`);
}

/** The local names under which a file has the functions of `lib/fault.ts`. */
function importedPassers(source: ts.SourceFile): ReadonlyMap<string, string> {
  const imports = source.statements
    .filter(ts.isImportDeclaration)
    .filter(
      ({ moduleSpecifier }) =>
        ts.isStringLiteral(moduleSpecifier) && /\/fault\.ts$/.test(moduleSpecifier.text),
    );
  const names = imports.flatMap(({ importClause }) => {
    const bindings = importClause?.namedBindings;
    return bindings !== undefined && ts.isNamedImports(bindings) ? [...bindings.elements] : [];
  });
  const pairs = names.map(({ name, propertyName }) => [name.text, (propertyName ?? name).text] as const);
  return new Map(pairs.filter(([, original]) => original in passers));
}

function around(name: string): readonly string[] {
  return [`${name}:before`, `${name}:after`];
}
