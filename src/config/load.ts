import { show } from '../core/names.ts';
import { InvalidArgument } from '../errors/errors.ts';
import { explain, type Problem } from './explain.ts';
import { type ConfigFile, readConfigFile } from './file.ts';
import { keyAt } from './keys.ts';
import {
  nonEmpty,
  type Override,
  overridesFrom,
  refuseUnknownVariables,
  withOverrides,
} from './overrides.ts';
import { conflicts, resolveConfig } from './resolve.ts';
import { type Config, configSchema } from './schema.ts';

const defaultConfigFile = '/etc/varve/config.yaml';

export interface ConfigInputs {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Values by dotted key, as typed. */
  readonly flags?: Readonly<Record<string, string>>;
  /** What `--config` names; it must exist, as the one that VARVE_CONFIG names must. */
  readonly configFile?: string | undefined;
  /** Read when no file is named; it may be missing. */
  readonly defaultFile?: string;
}

/** One effective value. */
export interface ConfigEntry {
  /** Dotted, with the names of pools and drivers in place. */
  readonly key: string;
  readonly value: unknown;
  /** `--FLAG`, `VARIABLE`, `FILE:LINE` or `default`. */
  readonly source: string;
  readonly unit: string | null;
  readonly doc: string;
}

export interface LoadedConfig {
  readonly config: Config;
  readonly entries: readonly ConfigEntry[];
}

/**
 * The effective configuration: flags, else `VARVE_*`, else the file, else the defaults. An empty variable
 * counts as not given.
 * @throws InvalidArgument that lists everything wrong, each with its source
 * @throws NotFound when a file that was named is missing
 */
export function loadConfig(inputs: ConfigInputs): LoadedConfig {
  const environment = nonEmpty(inputs.environment);
  refuseUnknownVariables(environment);
  const named = inputs.configFile ?? environment['VARVE_CONFIG'];
  const file = readConfigFile(named ?? inputs.defaultFile ?? defaultConfigFile, named !== undefined);
  const overrides = overridesFrom(inputs.flags ?? {}, environment);
  const sourceOf = sources(file, overrides);

  const merged = withOverrides(file.value, overrides);
  const parsed = configSchema.safeParse(merged);
  if (!parsed.success) {
    const problems = parsed.error.issues.flatMap(issue => explain(issue, merged));
    throw failure(problems, file, sourceOf);
  }
  const dockerHost = parsed.data.engine === 'auto' ? engineFrom(environment['DOCKER_HOST']) : undefined;
  const config = resolveConfig(parsed.data, dockerHost);
  const problems = conflicts(config);
  if (problems.length > 0) throw failure(problems, file, sourceOf);
  const engineSource = dockerHost === undefined ? sourceOf(['engine']) : 'DOCKER_HOST';
  const entries = entriesOf(config, path => (path[0] === 'engine' ? engineSource : sourceOf(path)));
  return { config, entries };
}

type SourceOf = (path: readonly string[]) => string;

function sources(file: ConfigFile, overrides: readonly Override[]): SourceOf {
  return path => {
    const override = overrides.find(({ key }) => key.key === path.join('.'));
    if (override !== undefined) return override.source;
    return (file.has(path) ? file.locate(path) : undefined) ?? 'default';
  };
}

function failure(problems: readonly Problem[], file: ConfigFile, sourceOf: SourceOf): InvalidArgument {
  const lines = problems.map(({ path, message }) => {
    const source = sourceOf(path);
    const where = source === 'default' ? file.locate(path) : source;
    return `${where === undefined ? '' : `${where}: `}${path.join('.')} ${message}`;
  });
  return new InvalidArgument(lines.join('\n'));
}

/** @throws InvalidArgument */
function engineFrom(dockerHost: string | undefined): string | undefined {
  if (dockerHost === undefined || configSchema.shape.engine.safeParse(dockerHost).success) return dockerHost;
  throw new InvalidArgument(
    `DOCKER_HOST is ${show(dockerHost)}, which the daemon cannot talk to; set the key engine to unix:///PATH, tcp://HOST:PORT or none`,
  );
}

function entriesOf(value: unknown, sourceOf: SourceOf, path: readonly string[] = []): ConfigEntry[] {
  const key = keyAt(path);
  if (key !== undefined) {
    if (value === undefined) return [];
    return [{ key: path.join('.'), value, source: sourceOf(path), unit: key.unit, doc: key.doc }];
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => entriesOf(inner, sourceOf, [...path, name]));
}
