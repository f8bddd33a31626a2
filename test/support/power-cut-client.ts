import type { Random } from '../crash/random.ts';
import { TestVolume } from '../crash/test-volume.ts';
import type { TestDaemon } from './daemon.ts';
import { KnownVolume, type Step, steps } from './power-cut-volume.ts';

/** How many volumes a client has at most, and at least once it has begun. */
const [most, fewest] = [8, 3];
const modes: readonly string[] = ['0700', '0750', '2775', '1777'];

/** When the power goes: at the first answer to a step of this name after so many answers of any kind. */
export interface Moment {
  /** How many clients work: what one of them brings to the disk takes along what another one forgot to. */
  readonly clients: number;
  readonly after: number;
  readonly at: Step['name'];
}

/** The power supply of a disk: goes off, once, in the middle of what the clients do. */
export class Outage {
  readonly #moment: Moment;
  readonly #cut: () => void;
  #answers = 0;
  #isOff = false;

  constructor(moment: Moment, cut: () => void) {
    this.#moment = moment;
    this.#cut = cut;
  }

  get isOff(): boolean {
    return this.#isOff;
  }

  /** In the same turn of the event loop as the answer: what is not on the disk by now never will be. */
  answered({ name }: Step): void {
    this.#answers += 1;
    if (this.#isOff || this.#answers < this.#moment.after || name !== this.#moment.at) return;
    this.#isOff = true;
    this.#cut();
  }
}

/** Does one thing after the other with volumes of its own, as fast as it is answered. */
export class PowerCutClient {
  readonly #daemon: TestDaemon;
  readonly #prefix: string;
  readonly #source: string;
  readonly #random: Random;
  #volumes: KnownVolume[] = [];
  #made = 0;

  /** @param source a directory to make copies of */
  constructor(daemon: TestDaemon, prefix: string, source: string, random: Random) {
    this.#daemon = daemon;
    this.#prefix = prefix;
    this.#source = source;
    this.#random = random;
  }

  /** All volumes that it has asked for, and has not forgotten. */
  get volumes(): readonly KnownVolume[] {
    return this.#volumes;
  }

  /** Forgets the volumes that are gone. */
  forgetRemoved(): void {
    this.#volumes = this.#volumes.filter(({ state }) => state !== 'removed');
  }

  /** Works until the power goes. @throws whatever goes wrong before */
  async work(outage: Outage): Promise<void> {
    while (!outage.isOff) {
      const { step, known } = this.#choose();
      known.unanswered = step;
      try {
        await step.act(known);
      } catch (error) {
        if (outage.isOff) return;
        throw error;
      }
      known.unanswered = undefined;
      outage.answered(step);
    }
  }

  #choose(): { readonly step: Step; readonly known: KnownVolume } {
    const there = this.#volumes.filter(({ state }) => state === 'there');
    const isShort = there.length < fewest || (there.length < most && this.#random.below(3) === 0);
    if (isShort) {
      const isCopy = this.#random.below(20) === 0;
      return { step: isCopy ? steps.copy : steps.create, known: this.#newVolume(isCopy) };
    }
    const known = this.#random.pick(there);
    return { step: this.#random.pick(possible(known)), known };
  }

  #newVolume(isCopy: boolean): KnownVolume {
    this.#made += 1;
    const options = {
      uid: String(this.#random.below(70_000)),
      gid: String(this.#random.below(70_000)),
      mode: this.#random.pick(modes),
      ...(isCopy && { 'from-path': this.#source }),
    };
    const known = new KnownVolume(new TestVolume(this.#daemon, `${this.#prefix}-${this.#made}`), options);
    this.#volumes.push(known);
    return known;
  }
}

function possible({ isProtected, source }: KnownVolume): readonly Step[] {
  const change = isProtected ? [steps.unprotect, steps.unprotect] : [steps.remove, steps.remove];
  return [...change, steps.protect, ...(source === undefined ? [steps.use] : [])];
}
