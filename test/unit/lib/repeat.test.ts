import { once } from 'node:events';
import { expect } from 'chai';
import { repeat } from '../../../src/lib/repeat.ts';

const never = 2 ** 30;

describe('a repetition', () => {
  let begun: EventTarget;
  let runs: number;
  let atOnce: number;
  let release: () => void;

  beforeEach(() => {
    begun = new EventTarget();
    runs = 0;
    atOnce = 0;
    release = () => {};
  });

  /** Work that says that it began and lasts until it is released. */
  async function work(): Promise<void> {
    runs += 1;
    atOnce += 1;
    expect(atOnce).to.equal(1);
    const { promise, resolve } = Promise.withResolvers<void>();
    release = resolve;
    begun.dispatchEvent(new Event('run'));
    await promise;
    atOnce -= 1;
  }

  const fail = (error: unknown): never => {
    throw error;
  };

  it('works at once, and again after the interval', async () => {
    const repetition = repeat(1, work, fail);
    expect(runs).to.equal(1);
    const again = once(begun, 'run');
    release();
    await again;
    expect(runs).to.equal(2);
    release();
    await repetition.stop();
  });

  it('works once more when it is nudged during the work, however often', async () => {
    const repetition = repeat(never, work, fail);
    repetition.nudge();
    repetition.nudge();
    const again = once(begun, 'run');
    release();
    await again;
    const stopped = repetition.stop();
    release();
    await stopped;
    expect(runs).to.equal(2);
  });

  it('works when it is nudged while it waits', async () => {
    const repetition = repeat(never, work, fail);
    release();
    await new Promise(setImmediate);
    const again = once(begun, 'run');
    repetition.nudge();
    await again;
    release();
    await repetition.stop();
    expect(runs).to.equal(2);
  });

  it('is stopped when its work has ended, told by the signal, and never works again', async () => {
    let signal: AbortSignal | undefined;
    const repetition = repeat(
      1,
      given => {
        signal = given;
        return work();
      },
      fail,
    );
    let isStopped = false;
    const stopped = repetition.stop().then(() => {
      isStopped = true;
    });
    expect(signal?.aborted).to.equal(true);
    await new Promise(setImmediate);
    expect(isStopped).to.equal(false);
    release();
    await stopped;
    repetition.nudge();
    await new Promise(setImmediate);
    expect(runs).to.equal(1);
  });

  it('goes on after a failure, and reports it', async () => {
    const errors: unknown[] = [];
    const failure = new Error('no');
    const again = once(begun, 'run');
    const repetition = repeat(
      1,
      async () => {
        if (errors.length === 0) throw failure;
        await work();
      },
      error => errors.push(error),
    );
    await again;
    release();
    await repetition.stop();
    expect(errors).to.deep.equal([failure]);
  });
});
