import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { tail } from '../../scripts/lib/process.ts';
import { expectAgreement, expectNothingBut } from '../crash/invariants.ts';
import { Random } from '../crash/random.ts';
import { startDaemon, type TestDaemon } from './daemon.ts';
import { type Moment, Outage, PowerCutClient } from './power-cut-client.ts';
import { type FileSystem, PowerCutDisk } from './power-cut-disk.ts';
import { makeSource } from './power-cut-source.ts';
import { type KnownVolume, steps } from './power-cut-volume.ts';

/** A daemon with its root on a disk whose power is cut while clients work. */
export class PowerCutWorld {
  readonly #disk: PowerCutDisk;
  readonly #daemon: TestDaemon;
  /** The same daemon, as a test sees it that looks below its root: the disk itself is a mount above. */
  readonly #view: TestDaemon;
  readonly #clients: readonly PowerCutClient[];

  private constructor(disk: PowerCutDisk, daemon: TestDaemon, seed: number) {
    this.#disk = disk;
    this.#daemon = daemon;
    this.#view = { ...daemon, root: disk.root, directory: disk.root };
    const source = makeSource(join(daemon.directory, 'source'));
    this.#clients = [1, 2, 3, 4].map(
      number => new PowerCutClient(this.#view, `c${number}`, source, new Random(seed + number)),
    );
  }

  static async open(type: FileSystem, seed: number): Promise<PowerCutWorld> {
    const disk = await PowerCutDisk.make(type);
    try {
      return new PowerCutWorld(disk, await startDaemon({ config: { root: disk.root } }), seed);
    } catch (error) {
      await disk.dispose();
      throw error;
    }
  }

  /** Lets the clients work, cuts the power, brings it back, and looks at everything that was answered. */
  async cutOnce(moment: Moment): Promise<void> {
    let ended = Promise.resolve();
    const outage = new Outage(moment, () => {
      this.#disk.cut();
      ended = this.#daemon.kill9();
    });
    try {
      await Promise.all(this.#clients.slice(0, moment.clients).map(client => client.work(outage)));
      await ended;
      await this.#reboot();
      await this.#check();
    } catch (error) {
      if (error instanceof Error)
        error.message += `\nThe end of the daemon's log:\n${tail(this.#daemon.log(), 12)}`;
      throw error;
    }
  }

  /** Removes every volume, after which there is nothing. */
  async cleanUp(): Promise<void> {
    for (const known of this.#volumes()) {
      await steps.unprotect.act(known);
      await steps.remove.act(known);
    }
    await expectNothingBut(this.#view);
    await expectAgreement(this.#view);
  }

  /** Ends everything and leaves nothing. */
  async close(): Promise<void> {
    await this.#daemon.kill9();
    try {
      await this.#disk.dispose();
    } finally {
      await this.#daemon.dispose();
    }
  }

  /** What is below /run is gone as well, and with it what was known of consumers. */
  async #reboot(): Promise<void> {
    await rm(join(this.#daemon.directory, 'run'), { recursive: true, force: true });
    await this.#disk.restore();
    await this.#daemon.start();
  }

  async #check(): Promise<void> {
    for (const known of this.#volumes()) await expectAsAnswered(known);
    await expectAgreement(this.#view);
    const present = await this.#present();
    await expectNothingBut(this.#view, ...present);
    for (const known of this.#volumes().filter(({ unanswered }) => unanswered !== undefined)) {
      await known.unanswered?.act(known);
      known.unanswered = undefined;
      if (known.state === 'there') await known.expectWhole();
    }
    for (const client of this.#clients) client.forgetRemoved();
    await expectNothingBut(this.#view, ...this.#volumes().map(({ volume }) => volume.name));
    await expectAgreement(this.#view);
  }

  /** The names of the volumes that exist; each is whole, or there is no such volume. */
  async #present(): Promise<readonly string[]> {
    const names: string[] = [];
    for (const known of this.#volumes()) {
      if (!(await known.exists())) continue;
      if (isInDoubt(known)) await known.expectWhole();
      names.push(known.volume.name);
    }
    return names;
  }

  #volumes(): readonly KnownVolume[] {
    return this.#clients.flatMap(({ volumes }) => volumes);
  }
}

async function expectAsAnswered(known: KnownVolume): Promise<void> {
  const { state, unanswered, volume } = known;
  if (isInDoubt(known)) return;
  expect(await known.exists(), `whether ${volume.name} exists, which is ${state}`).to.equal(
    state === 'there',
  );
  if (state !== 'there') return;
  await known.expectWhole();
  if (unanswered !== steps.protect && unanswered !== steps.unprotect) await known.expectProtection();
}

/** Whether nobody can say if the volume should exist. */
function isInDoubt({ state, unanswered }: KnownVolume): boolean {
  return state === 'asked for' || unanswered === steps.remove;
}
