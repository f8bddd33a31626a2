import { type Command, Option } from 'commander';
import { type ConfigKey, environmentName, flagName, scalarKeys } from '../config/keys.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';

/** Adds a flag for every key of the configuration that exists once. */
export function addConfigFlags(command: Command): Command {
  for (const key of scalarKeys) command.addOption(flagOf(key));
  return command;
}

/** The configuration that a command line selects. @throws InvalidArgument, NotFound */
export function configOf(command: Command): LoadedConfig {
  const given: Record<string, unknown> = command.optsWithGlobals();
  const flags = scalarKeys.flatMap(key => {
    const value = given[flagOf(key).attributeName()];
    return typeof value === 'string' ? [[key.key, value] as const] : [];
  });
  const configFile = typeof given['config'] === 'string' ? given['config'] : undefined;
  return loadConfig({ environment: process.env, flags: Object.fromEntries(flags), configFile });
}

function flagOf(key: ConfigKey): Option {
  const placeholder = { number: 'number', boolean: 'true|false', text: 'value' }[key.kind];
  const unit = key.unit === null ? '' : `, in ${key.unit}`;
  return new Option(
    `${flagName(key)} <${placeholder}>`,
    `${key.doc}${unit} (${environmentName(key)}; default: ${key.defaultText})`,
  );
}
