/** Collects the messages that varve can show, from its sources; documentation is compared with them. */
import ts from 'typescript';
import type { SourceFile } from './rules.ts';

/** A message: its fixed texts, with a value of the moment between each two. */
export interface Message {
  /** `PATH:LINE`. */
  readonly where: string;
  readonly texts: readonly string[];
  /** Part of a longer one: what is wrong with a key of the configuration, after the key's name. */
  readonly isPart: boolean;
}

export interface Collected {
  readonly messages: readonly Message[];
  /** Errors whose text is made elsewhere, as `PATH: EXPRESSION`: whoever adds one has to say where. */
  readonly opaque: readonly string[];
}

/** The names of the error classes, as their file declares them, and those of Node that reach a person. */
export function errorClasses(file: SourceFile): ReadonlySet<string> {
  const found = [...file.text.matchAll(/^export class (\w+) extends VarveError/gm)].map(match => match[1]);
  return new Set([...found.filter(name => name !== undefined), 'Error']);
}

/** Everything in one file that a person may read when something is wrong. */
export function collect(file: SourceFile, classes: ReadonlySet<string>): Collected {
  const tree = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.ESNext, true);
  const messages: Message[] = [];
  const opaque: string[] = [];
  const visit = (node: ts.Node): void => {
    const found = messageIn(node, file.path, classes);
    if (found !== undefined) {
      const line = tree.getLineAndCharacterOfPosition(found.at.getStart(tree)).line + 1;
      const read = textsOf(found.at).filter(texts => /[a-z]{2}/.test(texts.join('')));
      messages.push(...read.map(texts => ({ where: `${file.path}:${line}`, texts, isPart: found.isPart })));
      if (read.length === 0 && found.isError) opaque.push(`${file.path}: ${found.at.getText(tree)}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return { messages, opaque };
}

interface Found {
  readonly at: ts.Expression;
  readonly isPart: boolean;
  readonly isError: boolean;
}

/** The expression that makes a message, where this node is one that shows it. */
function messageIn(node: ts.Node, path: string, classes: ReadonlySet<string>): Found | undefined {
  const whole = (at: ts.Expression | undefined, isError = false): Found | undefined =>
    at && { at, isPart: false, isError };
  if (ts.isNewExpression(node)) return whole(errorText(node, classes), true);
  if (ts.isCallExpression(node)) return whole(shownBy(node, path));
  if (isSentenceOfConfig(node, path)) return { at: node, isPart: true, isError: false };
  if (ts.isArrayLiteralExpression(node)) {
    const [first, second] = node.elements;
    return first !== undefined && classes.has(first.getText()) ? whole(second) : undefined;
  }
  if (path.startsWith('src/config/')) return undefined;
  if (ts.isShorthandPropertyAssignment(node) && isShownProperty(node.name)) return whole(node.name);
  return ts.isPropertyAssignment(node) && isShownProperty(node.name) ? whole(node.initializer) : undefined;
}

/** The text of a new error: of a class that we know, or of whatever is thrown. */
function errorText(node: ts.NewExpression, classes: ReadonlySet<string>): ts.Expression | undefined {
  const isKnown = classes.has(node.expression.getText()) || ts.isThrowStatement(node.parent);
  return isKnown ? node.arguments?.[0] : undefined;
}

/** What a call shows to a person: a finding of the doctor, a warning in the log, the message of a deadline. */
function shownBy(
  { expression, arguments: given }: ts.CallExpression,
  path: string,
): ts.Expression | undefined {
  const callee = expression.getText();
  if (callee === 'within') return given[1];
  if (path === 'src/doctor.ts' && /^(warning|failure)$/.test(callee)) return given[1];
  return /\blog\.(warn|error)$/.test(callee) ? given[0] : undefined;
}

function isShownProperty(name: ts.PropertyName): boolean {
  return ['message', 'damage', 'health'].includes(name.getText());
}

/** In `src/config` every literal of three words or more says what is wrong, unless it is the doc of a key. */
function isSentenceOfConfig(node: ts.Node, path: string): node is ts.Expression {
  if (!path.startsWith('src/config/')) return false;
  if (
    !ts.isStringLiteral(node) &&
    !ts.isTemplateExpression(node) &&
    !ts.isNoSubstitutionTemplateLiteral(node)
  )
    return false;
  const { parent } = node;
  const isDoc =
    ts.isPropertyAssignment(parent) && ['doc', 'defaultText', 'source'].includes(parent.name.getText());
  if (isDoc || ts.isNewExpression(parent)) return false;
  return textsOf(node).some(texts => texts.join(' ').split(/\s+/).filter(Boolean).length >= 3);
}

/** The fixed texts that an expression can come to, one list for each way. */
function textsOf(node: ts.Expression): string[][] {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return [[node.text]];
  if (ts.isParenthesizedExpression(node)) return textsOf(node.expression);
  if (ts.isConditionalExpression(node)) return [...textsOf(node.whenTrue), ...textsOf(node.whenFalse)];
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken)
    return joined(textsOf(node.left), textsOf(node.right));
  if (ts.isIdentifier(node)) return textNamed(node) ?? [['', '']];
  if (!ts.isTemplateExpression(node)) return [['', '']];
  return node.templateSpans.reduce<string[][]>(
    (before, span) => {
      const value = ts.isIdentifier(span.expression) ? textNamed(span.expression) : undefined;
      return joined(joined(before, value ?? [['', '']]), [[span.literal.text]]);
    },
    [[node.head.text]],
  );
}

/** One text after another: the last part of the first runs into the first part of the second. */
function joined(before: string[][], after: string[][]): string[][] {
  return before.flatMap(left =>
    after.map(right => [...left.slice(0, -1), `${left.at(-1)}${right[0]}`, ...right.slice(1)]),
  );
}

/** What the constant of this name holds, if that is text; the nearest one around its use. */
function textNamed(name: ts.Identifier): string[][] | undefined {
  for (let scope: ts.Node | undefined = name.parent; scope !== undefined; scope = scope.parent) {
    if (!ts.isBlock(scope) && !ts.isSourceFile(scope)) continue;
    const declared = scope.statements
      .filter(ts.isVariableStatement)
      .flatMap(statement => [...statement.declarationList.declarations])
      .find(declaration => declaration.name.getText() === name.text);
    if (declared === undefined) continue;
    const texts = declared.initializer === undefined ? [] : textsOf(declared.initializer);
    return texts.some(parts => /[a-z]{2}/.test(parts.join(''))) ? texts : undefined;
  }
  return undefined;
}
