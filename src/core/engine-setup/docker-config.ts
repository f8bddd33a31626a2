/** dockerd's `daemon.json` (docs.docker.com, dockerd reference), as far as varve has to read and write it. */
import { FailedPrecondition, messageOf } from '../../errors/errors.ts';
import { flagOf } from './plan.ts';
import type { EngineFace } from './view.ts';

export type DaemonJson = Readonly<Record<string, unknown>>;

/** @throws FailedPrecondition for a text that is no JSON object */
export function parseDaemonJson(text: string, path: string): DaemonJson {
  if (text.trim() === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FailedPrecondition(`${path} is no JSON (${messageOf(error)}); repair it first`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as DaemonJson;
  throw new FailedPrecondition(`${path} is no JSON object; repair it first`);
}

/**
 * As what a Docker of this version can store on varve: 28 has no graph driver plugins any more (moby#48072); up to 27
 * a host that keeps its images in containerd goes on to do so.
 */
export function faceFor(major: number, json: DaemonJson): EngineFace {
  return major >= 28 || featuresOf(json)['containerd-snapshotter'] === true ? 'snapshotter' : 'graph driver';
}

function featuresOf(json: DaemonJson): Readonly<Record<string, unknown>> {
  const features = json['features'];
  return typeof features === 'object' && features !== null ? (features as Record<string, unknown>) : {};
}

/**
 * The same settings, and those that make dockerd store on varve.
 * @throws FailedPrecondition when others of them forbid it
 */
export function withStorage(json: DaemonJson, face: EngineFace, name: string, path: string): DaemonJson {
  const options = json['storage-opts'];
  if (Array.isArray(options) && options.length > 0) {
    throw new FailedPrecondition(
      `${path} has storage-opts, and varve takes none: its settings are in its own configuration; remove them, and repeat`,
    );
  }
  if (face === 'graph driver') return { ...json, experimental: true, 'storage-driver': name };
  if (json['userns-remap'] !== undefined && json['userns-remap'] !== '') {
    throw new FailedPrecondition(
      `${path} has userns-remap, with which Docker keeps no images in containerd (moby#47377); remove it, and repeat`,
    );
  }
  const features = { ...featuresOf(json), 'containerd-snapshotter': true };
  return { ...json, features, 'storage-driver': name };
}

/** Written as it was: with its own indentation. */
export function daemonJsonText(json: DaemonJson, before: string): string {
  const indent = /^\{\s*\n([ \t]+)"/.exec(before)?.[1] ?? '  ';
  return `${JSON.stringify(json, null, indent)}\n`;
}

/**
 * The settings that dockerd is started with already: it refuses to find them in its file as well.
 * @throws FailedPrecondition when one of them says something else
 */
export function settledByFlags(commandLine: readonly string[], name: string): readonly string[] {
  const flags = [
    ['storage-driver', flagOf(commandLine, '--storage-driver', '-s'), name],
    [
      'experimental',
      commandLine.includes('--experimental') ? 'true' : flagOf(commandLine, '--experimental'),
      'true',
    ],
  ] as const;
  for (const [key, value, wanted] of flags) {
    if (value === undefined || value === wanted) continue;
    throw new FailedPrecondition(
      `dockerd is started with --${key} ${value}, and takes no second word on it from a file; remove the flag where it is started (systemctl cat docker), and repeat`,
    );
  }
  return flags.filter(([, value]) => value !== undefined).map(([key]) => key);
}

/** Settings without some of them. */
export function without(json: DaemonJson, keys: readonly string[]): DaemonJson {
  return Object.fromEntries(Object.entries(json).filter(([key]) => !keys.includes(key)));
}

/** For systemd: 27 loads such plugins only with this variable (moby#48050). */
export const graphDriverUnit = '[Service]\nEnvironment=DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS=1\n';
