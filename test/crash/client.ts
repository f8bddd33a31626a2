import { AssertionError, expect } from 'chai';
import type { Random } from './random.ts';
import { expectRemoved, expectSuccess, letGo, type TestVolume } from './test-volume.ts';

/** A volume and what its client knows of it, from answers alone. */
interface Owned {
  readonly volume: TestVolume;
  exists: boolean;
  isMounted: boolean;
  /** What was asked for and never answered. */
  unanswered: Step | undefined;
}

type Step = (owned: Owned) => Promise<void>;

const make: Step = async owned => {
  await owned.volume.makeWithData();
  owned.exists = true;
};

const mount: Step = async owned => {
  const answer = await owned.volume.mount();
  expectSuccess(answer);
  owned.isMounted = true;
  await owned.volume.expectData((answer.body as { Mountpoint: string }).Mountpoint);
};

const unmount: Step = async owned => {
  expectSuccess(await owned.volume.unmount());
  owned.isMounted = false;
};

const remove: Step = async owned => {
  expectRemoved(await owned.volume.remove());
  owned.exists = false;
};

/** A client of the plugin socket that does one thing after the other, and insists on what was not answered. */
export class Client {
  readonly #owned: readonly Owned[];
  readonly #random: Random;
  #steps = 0;

  constructor(volumes: readonly TestVolume[], random: Random) {
    this.#owned = volumes.map(volume => ({ volume, exists: false, isMounted: false, unanswered: undefined }));
    this.#random = random;
  }

  /** How many things were done and answered. */
  get steps(): number {
    return this.#steps;
  }

  /** Works until the connection breaks. @throws AssertionError when an answer is wrong */
  async work(): Promise<void> {
    for (;;) {
      const owned =
        this.#owned.find(({ unanswered }) => unanswered !== undefined) ?? this.#random.pick(this.#owned);
      owned.unanswered ??= this.#random.pick(possible(owned));
      try {
        await owned.unanswered(owned);
      } catch (error) {
        if (error instanceof AssertionError) throw error;
        return;
      }
      owned.unanswered = undefined;
      this.#steps += 1;
    }
  }

  /** Whether everything that was answered is still so. */
  async expectWhatWasAnswered(): Promise<void> {
    for (const { volume, exists, isMounted, unanswered } of this.#owned) {
      if (!exists || unanswered === remove) continue;
      await volume.expectData();
      if (!isMounted || unanswered === unmount) continue;
      const view = await volume.becomes('mounted', ({ mountPoint }) => mountPoint !== '');
      expect(view.consumers.map(({ mountId }) => mountId)).to.deep.equal([volume.mountId]);
      await volume.expectData(view.mountPoint);
    }
  }

  /** Does what was not answered, and removes everything. */
  async cleanUp(): Promise<void> {
    for (const owned of this.#owned) {
      await owned.unanswered?.(owned);
      if (!owned.exists) continue;
      await letGo(owned.volume);
      await remove(owned);
    }
  }
}

function possible({ exists, isMounted }: Owned): readonly Step[] {
  if (!exists) return [make];
  return isMounted ? [mount, unmount, unmount] : [mount, mount, remove];
}
