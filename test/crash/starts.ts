import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { varveScript } from '../../scripts/lib/paths.ts';
import { type Result, run } from '../../scripts/lib/process.ts';
import { environment, startDaemon, type TestDaemon } from '../support/daemon.ts';
import { expectAgreement, expectNothingBut } from './invariants.ts';
import { expectSuccess, TestVolume } from './test-volume.ts';

/** What the program does instead of passing a point. */
export type Interruption = 'kill' | 'error';

/** As `varve --help` lists them. */
const internalError = 70;
const foundDamage = 1;

/** Interrupts the first start on an empty root, and starts again. @returns the points that were passed */
export async function startTwice(point: string, action: Interruption): Promise<ReadonlySet<string>> {
  const daemon = await startDaemon({ start: false });
  try {
    daemon.faults({ [point]: action });
    await daemon.start().then(
      () => expect.fail('the daemon started'),
      () => undefined,
    );
    const { code, signal } = await daemon.ended();
    expect({ code, signal }).to.deep.equal(
      action === 'kill' ? { code: null, signal: 'SIGKILL' } : { code: internalError, signal: null },
    );
    daemon.faults({});
    await daemon.start();
    const volume = new TestVolume(daemon, 'first');
    await volume.makeWithData();
    expectSuccess(await volume.mount());
    await volume.expectData();
    expectSuccess(await volume.unmount());
    await expectAgreement(daemon);
    await expectNothingBut(daemon, 'first');
    return daemon.hits();
  } finally {
    await daemon.dispose();
  }
}

/**
 * Damages the database, interrupts `varve state rebuild`, runs it again, and starts the daemon.
 * @returns the points that were passed
 */
export async function rebuildTwice(point: string, action: Interruption): Promise<ReadonlySet<string>> {
  const daemon = await startDaemon();
  try {
    const volumes = [new TestVolume(daemon, 'one'), new TestVolume(daemon, 'two')];
    for (const volume of volumes) await volume.makeWithData();
    await daemon.stop();
    writeFileSync(join(daemon.root, 'state.db'), 'damaged'.repeat(1_000));
    daemon.faults({ [point]: action });
    const interrupted = await rebuild(daemon);
    // A pool that cannot be read to its end is reported like a damaged one.
    const expected = action === 'kill' ? [null] : [internalError, foundDamage];
    expect(expected, interrupted.stderr).to.include(interrupted.exitCode);
    daemon.faults({});
    const rebuilt = await rebuild(daemon);
    expect(rebuilt.exitCode, rebuilt.stderr).to.equal(0);
    await daemon.start();
    for (const volume of volumes) await volume.expectData();
    await expectAgreement(daemon);
    await expectNothingBut(daemon, 'one', 'two');
    return daemon.hits();
  } finally {
    await daemon.dispose();
  }
}

function rebuild({ directory }: TestDaemon): Promise<Result> {
  return run(process.execPath, [varveScript, 'state', 'rebuild', '--yes'], {
    env: {
      ...environment,
      VARVE_CONFIG: join(directory, 'config.yaml'),
      VARVE_FAULTS: join(directory, 'faults'),
    },
    timeoutMs: 20_000,
  });
}
