import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stateDirectory } from './paths.ts';
import type { ProcessId } from './proc.ts';

/** What `up` has started, for `down`, and for the next `up`. */
export interface UpState {
  readonly engine?: {
    /** `private` is one of ours, `found` was there before. */
    readonly kind: 'private' | 'found';
    readonly socket: string;
    /** Of one that keeps its images and containers on varve: which, such as `docker-28`. */
    readonly name?: string;
    /** Where its programs are, when they are not the installed ones. */
    readonly binDir?: string;
  };
  /** Absent when a daemon that we did not start serves. */
  readonly daemon?: ProcessId;
  readonly paths?: DaemonPaths;
  /** The registry of `scripts/engines registry up`. */
  readonly registry?: ProcessId;
}

/** Where the daemon keeps what it has. */
export interface DaemonPaths {
  readonly root: string;
  readonly run: string;
  readonly adminSocket: string;
  readonly pluginSockets: readonly string[];
  /** Its configuration file, when it is one of ours. */
  readonly configFile?: string;
}

/** The directory of the private engine. */
export const engineDirectory = join(stateDirectory, 'engine');
export const daemonLog = join(stateDirectory, 'varve.log');
/** The configuration of a daemon for an engine that stores on varve. */
export const daemonConfig = join(stateDirectory, 'varve.yaml');
export const binDirectory = join(stateDirectory, 'bin');

const file = join(stateDirectory, 'state.json');

export function readState(): UpState {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as UpState;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}

/** Adds to the state; written at each step, so that `down` knows all of a half-done `up`. */
export function remember(more: UpState): void {
  mkdirSync(stateDirectory, { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify({ ...readState(), ...more }, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
