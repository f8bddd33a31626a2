import { readFileSync } from 'node:fs';
import { type Document, isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { InvalidArgument, messageOf, NotFound, Unavailable } from '../errors/errors.ts';

/** A configuration file as read: plain data, and where in the file each key stands. */
export interface ConfigFile {
  readonly value: unknown;
  /** `PATH:LINE` of a key, or of the nearest key above it; undefined when the file has neither. */
  locate(path: readonly string[]): string | undefined;
  /** Whether it gives the key a value. */
  has(path: readonly string[]): boolean;
}

const noFile: ConfigFile = { value: {}, locate: () => undefined, has: () => false };

/**
 * Reads a YAML configuration. A key without a value counts as not given.
 * @throws NotFound when the file is missing and `required`
 * @throws Unavailable when it cannot be read
 * @throws InvalidArgument when it is not YAML, or not a map
 */
export function readConfigFile(path: string, required: boolean): ConfigFile {
  const text = readText(path, required);
  if (text === undefined) return noFile;
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [problem] = [...document.errors, ...document.warnings];
  if (problem !== undefined) {
    throw new InvalidArgument(`${path} is not valid YAML: ${problem.message.trimEnd()}`);
  }
  if (document.contents !== null && !isMap(document.contents) && !isEmpty(document)) {
    throw new InvalidArgument(
      `${path} is not a map of keys and values; write one key a line, such as "root: /var/lib/varve"`,
    );
  }
  keepOptionTexts(document);
  return {
    value: given(document.toJS() ?? {}),
    locate: keys => {
      const offset = offsetOf(document, keys);
      return offset === undefined ? undefined : `${path}:${lines.linePos(offset).line}`;
    },
    has: keys => (document.getIn(keys) ?? null) !== null,
  };
}

function readText(path: string, required: boolean): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new Unavailable(`the configuration ${path} cannot be read: ${messageOf(error)}`);
    }
    if (!required) return undefined;
    throw new NotFound(
      `the configuration ${path} does not exist; make it, or leave out --config and VARVE_CONFIG`,
    );
  }
}

function isEmpty(document: Document): boolean {
  return isScalar(document.contents) && document.contents.value === null;
}

/** Option values are texts: `mode: 0700` is not the number 700, nor `size: 1e3` 1000. */
function keepOptionTexts(document: Document): void {
  const drivers = document.get('drivers');
  for (const driver of isMap(drivers) ? drivers.items : []) {
    const options = isMap(driver.value) ? driver.value.get('options') : undefined;
    for (const option of isMap(options) ? options.items : []) {
      if (isScalar(option.value) && option.value.source !== undefined)
        option.value.value = option.value.source;
    }
  }
}

/** The value without the keys that have none. */
function given(value: unknown): unknown {
  if (Array.isArray(value)) return value;
  if (value === null) return undefined;
  if (typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, given(inner)]));
}

function offsetOf(document: Document, path: readonly string[]): number | undefined {
  let node = document.contents;
  let offset: number | undefined;
  for (const name of path) {
    if (!isMap(node)) break;
    const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === name);
    if (pair === undefined) break;
    offset = (pair.key as Node).range?.[0] ?? offset;
    node = pair.value as Node | null;
  }
  return offset;
}
