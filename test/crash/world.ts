import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tail } from '../../scripts/lib/process.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { Bystander, bystanderName } from './bystander.ts';
import { expectAgreement, expectNothingBut } from './invariants.ts';
import { TestVolume } from './test-volume.ts';

/** A real engine, a daemon, and a container that works all the while on a volume of that daemon. */
export class World {
  readonly engine: TestEngine;
  readonly daemon: TestDaemon;
  readonly bystander: Bystander;
  /** A directory with a file `blob`, to make volumes from. */
  readonly source: string;
  #volumes = 0;

  private constructor(engine: TestEngine, daemon: TestDaemon, bystander: Bystander) {
    this.engine = engine;
    this.daemon = daemon;
    this.bystander = bystander;
    this.source = mkdtempSync(join(tmpdir(), 'varve-source-'));
    writeFileSync(join(this.source, 'blob'), randomBytes(256 * 1024));
  }

  /** @param engineArguments further arguments of dockerd */
  static async open(...engineArguments: readonly string[]): Promise<World> {
    const engine = await startEngine({ args: engineArguments });
    try {
      return await World.#on(engine);
    } catch (error) {
      await engine.stop();
      throw error;
    }
  }

  static async #on(engine: TestEngine): Promise<World> {
    const daemon = await startDaemon({ config: { engine: engine.dockerHost } });
    try {
      return new World(engine, daemon, await Bystander.start(engine, daemon));
    } catch (error) {
      await daemon.dispose();
      throw error;
    }
  }

  newVolume(): TestVolume {
    this.#volumes += 1;
    return new TestVolume(this.daemon, `volume-${this.#volumes}`);
  }

  /** Whether nobody noticed anything: the bystander writes on, and the records are right. */
  async expectPeace(): Promise<void> {
    await this.bystander.check();
    await expectAgreement(this.daemon);
  }

  /** Whether there is nothing but the bystander's volume. */
  async expectNothingElse(): Promise<void> {
    await expectNothingBut(this.daemon, bystanderName);
  }

  /** Runs a part of a test; its error also tells what the daemon logged last. */
  async explain<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (error instanceof Error)
        error.message += `\nThe end of the daemon's log:\n${tail(this.daemon.log(), 12)}`;
      throw error;
    }
  }

  /** Ends everything and leaves nothing. */
  async close(): Promise<void> {
    rmSync(this.source, { recursive: true, force: true });
    await this.engine.stop();
    await this.daemon.dispose();
  }
}
