/** How long each engine takes to start with the volumes that it knows: while varve runs, and while it is absent. */

import { type Lane, laneName, lanes, startLane } from '../scripts/lib/lanes.ts';
import { messageOf } from '../src/errors/errors.ts';
import { startDaemon, type TestDaemon } from '../test/support/daemon.ts';
import type { TestEngine } from '../test/support/engine.ts';
import { compare, type Row } from './compare.ts';
import { askEngine } from './engine-api.ts';

/** Each engine with a thousand volumes of ours, and with a thousand of `local`. */
export async function* benchEngineStart(): AsyncGenerator<Row> {
  for (const lane of lanes) yield* await onLane(lane, present);
}

/** Each engine with 3 and with 10 volumes of a varve that does not run: some ten minutes. */
export async function* benchEngineAbsent(): AsyncGenerator<Row> {
  for (const lane of lanes) {
    for (const known of [3, 10])
      yield* await onLane(lane, (engine, daemon) => absent(lane, engine, daemon, known));
  }
}

/** Measures one engine; one that cannot be had gives no rows. */
async function onLane(
  lane: Lane,
  measure: (engine: TestEngine, daemon: TestDaemon, lane: Lane) => Promise<Row>,
): Promise<Row[]> {
  const engine = await startLane(lane).catch((error: unknown) => {
    console.error(`bench: no rows of the ${laneName(lane)}: ${messageOf(error)}`);
    return undefined;
  });
  if (engine === undefined) return [];
  try {
    const daemon = await startDaemon({ faultPoints: false });
    try {
      return [await measure(engine, daemon, lane)];
    } finally {
      await daemon.dispose();
    }
  } finally {
    await engine.stop();
  }
}

async function present(engine: TestEngine, { driver }: TestDaemon, lane: Lane): Promise<Row> {
  const other = await startLane(lane);
  try {
    await createVolumes(engine, driver, 1_000);
    await createVolumes(other, 'local', 1_000);
    return await compare({
      ...{ work: `engine-start-1000-${slug(lane)}`, against: `local, Docker ${engine.version}` },
      ...{ unit: 'ms', runs: 7, better: 'lower' },
      ours: () => engine.restart(),
      theirs: () => other.restart(),
    });
  } finally {
    await other.stop();
  }
}

async function absent(lane: Lane, engine: TestEngine, daemon: TestDaemon, known: number): Promise<Row> {
  await createVolumes(engine, daemon.driver, known);
  await daemon.stop();
  const ours = (await engine.restart(known * 20_000)) / 1_000;
  return {
    ...{ work: `engine-absent-${known}-${slug(lane)}`, against: `-, Docker ${engine.version}`, ours },
    ...{ theirs: null, unit: 's', ratio: null, band: null, goal: 'reported', met: null, runs: 1 },
  };
}

function slug({ suite }: Lane): string {
  return suite ?? 'installed';
}

/** Makes volumes as a client of the engine does, which keeps a record of each; sixteen at a time. */
async function createVolumes(engine: TestEngine, driver: string, count: number): Promise<void> {
  const numbers = Array.from({ length: count }, (_, at) => at).values();
  const worker = async () => {
    for (const number of numbers)
      await askEngine(engine.socket, 'POST', '/volumes/create', { Name: `start-${number}`, Driver: driver });
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}
