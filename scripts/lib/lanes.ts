import { Internal, messageOf } from '../../src/errors/errors.ts';
import { startEngine, type TestEngine } from '../../test/support/engine.ts';
import type { TestResult } from './results.ts';
import { engineBin, fetchEngine, hasEngine } from './suite-engines.ts';

/** One engine that the end-to-end tests run on. */
export interface Lane {
  /** Debian's suite that the engine is from; undefined for the installed engine. */
  readonly suite: string | undefined;
  /** Changes under us from day to day: the run goes on without it. */
  readonly isExtra: boolean;
  /** Files of `test/e2e/engines` that run there with `--long` only. */
  readonly leftOut: readonly string[];
}

/** Long tests of volumes; each of them runs on one engine at least without `--long`. */
const longVolumeFiles = ['daemon-restart', 'discovery', 'managed-plugin', 'moby-never-tests', 's6-s11'];

/** They run side by side. Tests that need one engine and not all of them run on the first. */
export const lanes: readonly Lane[] = [
  { suite: undefined, isExtra: false, leftOut: [] },
  { suite: 'trixie', isExtra: false, leftOut: [...longVolumeFiles, 'container-limit'] },
  { suite: 'sid', isExtra: true, leftOut: ['daemon-restart', 'discovery'] },
];

export function laneName({ suite }: Lane): string {
  return suite === undefined ? 'the installed engine' : `engine of ${suite}`;
}

/** Starts the engine of a lane, which is fetched at first need. @throws Internal, NotFound, Unavailable */
export async function startLane({ suite }: Lane): Promise<TestEngine> {
  if (suite === undefined) return startEngine();
  if (!hasEngine(suite)) await fetchEngine(suite);
  return startEngine({ binDir: engineBin(suite) });
}

/** What a lane gives a run. */
export type LaneOutcome =
  | { readonly engine: string }
  /** Why nothing was tested there, and the tests that count as skipped for it: none when that fails the run. */
  | { readonly missing: string; readonly skipped: readonly TestResult[] };

/** The engine of a lane, with the version that it gives, when it can be had and has run a container. */
export async function tryLane(lane: Lane): Promise<LaneOutcome> {
  try {
    return { engine: await prepareLane(lane) };
  } catch (error) {
    const message = `${laneName(lane)}: ${messageOf(error)}`;
    const skipped: TestResult = {
      ...{ title: 'the end-to-end tests', file: '', outcome: 'skipped', message, ms: 0 },
    };
    return { missing: `!!! NOTHING WAS TESTED ON ${message}`, skipped: lane.isExtra ? [skipped] : [] };
  }
}

/** @throws Internal, NotFound, Unavailable */
async function prepareLane(lane: Lane): Promise<string> {
  const engine = await startLane(lane);
  try {
    const ran = await engine.docker('run', '--rm', '--network', 'none', 'busybox', 'echo', 'it runs');
    if (ran.stdout !== 'it runs\n') throw new Internal(`it runs no container: ${ran.stderr.trim()}`);
    return `Docker ${engine.version} (${lane.suite ?? 'installed'})`;
  } finally {
    await engine.stop();
  }
}
