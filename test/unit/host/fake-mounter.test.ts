import { expect } from 'chai';
import { Unavailable } from '../../../src/errors/errors.ts';
import { FakeMounter } from '../../../src/host/fake/mounter.ts';
import { mounterSuite } from '../../suites/mounter.ts';
import { rejection } from '../../support/rejection.ts';

mounterSuite('fake', async () => {
  const mounter = new FakeMounter();
  let nextPid = 1_000_000_000;
  return {
    mounter,
    directory: async name => `/fake/${name}`,
    container: async (directory, mountPoint) => {
      nextPid += 1;
      const pid = nextPid;
      mounter.hideFrom(pid);
      mounter.useFrom(pid, directory, mountPoint);
      return { pid, end: async () => mounter.endProcess(pid) };
    },
    close: async () => {},
  };
});

describe('FakeMounter', () => {
  const mount = { type: 'bind', source: '/a', target: '/b', readonly: false } as const;

  it('logs what changed the table, and nothing else', async () => {
    const mounter = new FakeMounter();
    await mounter.mount(mount);
    await mounter.mount(mount);
    await mounter.unmount('/c');
    await mounter.unmount('/b');
    expect(mounter.actions).to.deep.equal([{ mount }, { unmount: '/b' }]);
  });

  it('fails once when told to, and changes nothing then', async () => {
    const mounter = new FakeMounter();
    mounter.failNext('mount', new Unavailable('no disk'));
    expect(await rejection(mounter.mount(mount))).to.be.instanceOf(Unavailable);
    expect(await mounter.table()).to.deep.equal([]);
    await mounter.mount(mount);
    expect(await mounter.table()).to.have.length(1);
  });
});
