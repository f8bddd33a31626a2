import { expect } from 'chai';
import fc from 'fast-check';
import {
  type Consumers,
  forgottenMs,
  graceMs,
  mounted,
  noConsumers,
  settled,
  startMs,
  unconfirmed,
  unmounted,
} from '../../../../src/core/volumes/consumers.ts';
import { mountId } from '../../../support/world.ts';

const a = mountId('a');
const b = mountId('b');
const idle = { inUse: false, disowned: false, nowMs: graceMs };

function countsOf(consumers: Consumers): Record<string, number> {
  return Object.fromEntries([...consumers].map(([id, { count }]) => [id, count]));
}

describe('the counts of consumers', () => {
  it('count each id by itself', () => {
    const both = mounted(mounted(mounted(noConsumers, a, 1), b, 2), a, 3);
    expect(countsOf(both)).to.deep.equal({ a: 2, b: 1 });
    expect(both.get(a)?.sinceMs).to.equal(3);
    expect(countsOf(unmounted(both, a))).to.deep.equal({ a: 1, b: 1 });
    expect(countsOf(unmounted(unmounted(both, a), a))).to.deep.equal({ b: 1 });
  });

  it('an unmount of an unknown id changes nothing', () => {
    const one = mounted(noConsumers, a, 1);
    expect(unmounted(one, b)).to.equal(one);
  });

  it('as many unmounts as mounts leave nobody, in any order and with doubts in between', () => {
    const ids = fc.array(fc.constantFrom(a, b, mountId('c')), { maxLength: 20 });
    fc.assert(
      fc.property(ids, fc.boolean(), (mounts, isDoubtful) => {
        let consumers = mounts.reduce((all, id) => mounted(all, id, 0), noConsumers);
        if (isDoubtful) consumers = unconfirmed(consumers);
        consumers = mounts.toReversed().reduce(unmounted, consumers);
        expect(consumers.size).to.equal(0);
      }),
    );
  });

  it('a doubt about an id stays until it is gone', () => {
    const doubtful = mounted(unconfirmed(mounted(noConsumers, a, 1)), a, 2);
    expect(doubtful.get(a)).to.deep.equal({ count: 2, confirmed: false, sinceMs: 2 });
    const anew = mounted(unmounted(unmounted(doubtful, a), a), a, 3);
    expect(anew.get(a)).to.deep.equal({ count: 1, confirmed: true, sinceMs: 3 });
  });

  const one = mounted(noConsumers, a, 0);
  const table = [
    ['a mount namespace has it', unconfirmed(one), { inUse: true, disowned: true }, 'stays'],
    ['the count is exact and the engine was not asked', one, {}, 'stays'],
    ['the engine says that nobody has it', one, { disowned: true }, 'goes'],
    ['the engine has restarted', unconfirmed(one), {}, 'goes'],
    [
      'its container may still be starting',
      unconfirmed(one),
      { disowned: true, nowMs: graceMs - 1 },
      'stays',
    ],
  ] as const;
  for (const [when, consumers, evidence, fate] of table) {
    it(`a consumer ${fate} when ${when}`, () => {
      expect(settled(consumers, { ...idle, ...evidence }).has(a)).to.equal(fate === 'stays');
    });
  }

  it('a consumer that nothing speaks against stays until it is forgotten', () => {
    expect(settled(one, { ...idle, nowMs: forgottenMs - 1 })).to.equal(one);
    expect(settled(one, { ...idle, nowMs: forgottenMs }).size).to.equal(0);
  });

  it('the consumer of Podman stays until Podman gives it back, whatever speaks against it', () => {
    const podman = mountId('2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2');
    const held = unconfirmed(mounted(noConsumers, podman, 0));
    expect(settled(held, { ...idle, disowned: true, nowMs: 2 * forgottenMs })).to.equal(held);
    expect(unmounted(held, podman).size).to.equal(0);
  });

  it('a first copy may take far longer than the start of a container', () => {
    expect(graceMs).to.be.greaterThan(10 * startMs);
    const doubtful = settled(unconfirmed(one), { ...idle, disowned: true, nowMs: graceMs - 1 });
    expect(doubtful.get(a)).to.deep.equal({ count: 1, confirmed: false, sinceMs: 0 });
  });

  it('a use is a sight of the doubtful consumers, and of no other', () => {
    const both = mounted(unconfirmed(one), b, 1);
    const seen = settled(both, { ...idle, inUse: true });
    expect(seen.get(a)).to.deep.equal({ count: 1, confirmed: false, sinceMs: graceMs });
    expect(seen.get(b)).to.equal(both.get(b));
    expect(settled(seen, { ...idle, inUse: true, nowMs: 2 * graceMs - 1 })).to.equal(seen);
  });

  it('settling gives back the very same consumers when none goes, so that nothing is written', () => {
    expect(settled(one, idle)).to.equal(one);
  });
});
