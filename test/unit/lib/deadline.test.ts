import { mock } from 'node:test';
import { expect } from 'chai';
import { DeadlineExceeded, Unavailable } from '../../../src/errors/errors.ts';
import { within } from '../../../src/lib/deadline.ts';
import { rejection } from '../../support/rejection.ts';

const never = <T>() => new Promise<T>(() => {});

describe('within', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
  afterEach(() => mock.timers.reset());

  it('gives what the act gives, and its error as it is', async () => {
    expect(await within(10, 'late', async () => 7)).to.equal(7);
    const own = new Unavailable('own');
    expect(await rejection(within(10, 'late', () => Promise.reject(own)))).to.equal(own);
    const thrown = new Error('at once');
    const throwing = (): Promise<never> => {
      throw thrown;
    };
    expect(await rejection(within(10, 'late', throwing))).to.equal(thrown);
  });

  it('is DeadlineExceeded with the message at the time, and not before', async () => {
    let outcome: unknown;
    const waiting = rejection(within(10, 'the disk is silent', never)).then(error => {
      outcome = error;
    });
    mock.timers.tick(9);
    await new Promise(setImmediate);
    expect(outcome).to.equal(undefined);
    mock.timers.tick(1);
    await waiting;
    expect(outcome).to.be.instanceOf(DeadlineExceeded).with.property('message', 'the disk is silent');
  });

  it('leaves no timer that keeps the process alive', async () => {
    mock.timers.reset();
    const set = mock.method(globalThis, 'setTimeout');
    const clear = mock.method(globalThis, 'clearTimeout');
    try {
      await within(60_000, 'late', async () => {});
      await rejection(within(60_000, 'late', () => Promise.reject(new Error('no'))));
      const timers = set.mock.calls.filter(call => call.arguments[1] === 60_000).map(call => call.result);
      expect(timers).to.have.length(2);
      expect(clear.mock.calls.map(call => call.arguments[0])).to.include.members(timers);
    } finally {
      set.mock.restore();
      clear.mock.restore();
    }
  });

  it('an act that fails after its time disturbs nobody', async () => {
    const act = Promise.withResolvers<void>();
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    try {
      const waiting = rejection(within(10, 'late', () => act.promise));
      mock.timers.tick(10);
      await waiting;
      act.reject(new Error('much later'));
      await new Promise(setImmediate);
      expect(unhandled).to.deep.equal([]);
    } finally {
      process.off('unhandledRejection', note);
    }
  });
});
