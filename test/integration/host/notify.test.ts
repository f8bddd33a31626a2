import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { serviceManager } from '../../../src/host/linux/notify.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { type NotifySocket, receiveNotifications } from '../../support/notify-socket.ts';

describe('what the service manager is told', function () {
  this.timeout(30_000);
  let scratch: Scratch;
  const sockets: NotifySocket[] = [];
  const warnings: string[] = [];
  const log = { warn: (text: string) => void warnings.push(text) } as never;
  beforeEach(async () => {
    warnings.length = 0;
    scratch = await Scratch.make();
  });
  afterEach(async () => {
    await Promise.all(sockets.splice(0).map(socket => socket.close()));
    await scratch.remove();
  });

  const receive = async (address: string) => {
    const socket = await receiveNotifications(address);
    sockets.push(socket);
    return socket;
  };

  for (const [kind, address] of [
    ['a path', () => join(scratch.path, 'notify')],
    ['an abstract name', () => `@varve-test-${process.pid}`],
  ] as const) {
    it(`READY and STOPPING arrive at ${kind}`, async () => {
      const socket = await receive(address());
      const manager = serviceManager({ NOTIFY_SOCKET: address() }, process.pid, log);
      await manager.ready();
      await manager.stopping();
      await manager.close();
      await until('two messages', 5_000, () => socket.messages().length === 2);
      expect(socket.messages()).to.deep.equal(['READY=1', 'STOPPING=1']);
      expect(warnings).to.deep.equal([]);
    });
  }

  it('the watchdog is fed from READY on, and only by the process that it watches', async () => {
    const [ours, theirs] = [join(scratch.path, 'ours'), join(scratch.path, 'theirs')];
    const [fed, hungry] = [await receive(ours), await receive(theirs)];
    const every = { WATCHDOG_USEC: '4000' };
    const feeder = serviceManager(
      { ...every, NOTIFY_SOCKET: ours, WATCHDOG_PID: String(process.pid) },
      process.pid,
      log,
    );
    const bystander = serviceManager(
      { ...every, NOTIFY_SOCKET: theirs, WATCHDOG_PID: '1' },
      process.pid,
      log,
    );
    await bystander.ready();
    await feeder.ready();
    await until('twenty messages', 10_000, () => fed.messages().length > 20);
    await feeder.close();
    await bystander.close();
    await bystander.stopping();
    await until('the last message', 10_000, () => hungry.messages().includes('STOPPING=1'));
    expect(fed.messages()[0]).to.equal('READY=1');
    expect(new Set(fed.messages().slice(1))).to.deep.equal(new Set(['WATCHDOG=1']));
    expect(hungry.messages()).to.deep.equal(['READY=1', 'STOPPING=1']);
  });

  it('nothing without NOTIFY_SOCKET', async () => {
    const manager = serviceManager({ WATCHDOG_USEC: '1000' }, process.pid, log);
    await manager.ready();
    await manager.stopping();
    await manager.close();
    expect(warnings).to.deep.equal([]);
  });

  for (const [what, address, message] of [
    ['nobody has', '/nonexistent/notify', /not told READY=1: .*notify \/nonexistent\/notify/],
    ['is none', 'vsock:2:1', /not told READY=1: NOTIFY_SOCKET is "vsock:2:1"; it must be/],
  ] as const) {
    it(`an address that ${what} is a warning`, async () => {
      const manager = serviceManager({ NOTIFY_SOCKET: address }, process.pid, log);
      await manager.ready();
      await manager.close();
      expect(warnings).to.have.lengthOf(1);
      expect(warnings[0]).to.match(message);
    });
  }

  it('the daemon is ready when requests are answered and not before, and says when it stops', async () => {
    const address = join(scratch.path, 'notify');
    const socket = await receive(address);
    const daemon: TestDaemon = await startDaemon({
      start: false,
      env: { NOTIFY_SOCKET: address, WATCHDOG_USEC: '20000' },
    });
    try {
      daemon.faults({ 'daemon.load': 'hold' });
      const started = daemon.start();
      const held = daemon.hits;
      await until('the daemon to load', 20_000, () => held().has('daemon.load'));
      // When this has arrived, so has all that the daemon said before.
      await serviceManager({ NOTIFY_SOCKET: address }, process.pid, log).stopping();
      await until('our message', 10_000, () => socket.messages().includes('STOPPING=1'));
      expect(socket.messages()).to.deep.equal(['STOPPING=1']);
      daemon.faults({});
      await started;
      await until('the watchdog to be fed', 10_000, () => socket.messages().includes('WATCHDOG=1'));
      expect(socket.messages()[1]).to.equal('READY=1');
      await daemon.stop();
      await until('the end', 10_000, () => socket.messages().lastIndexOf('STOPPING=1') > 1);
      const states = socket.messages().filter(message => message !== 'WATCHDOG=1');
      expect(states).to.deep.equal(['STOPPING=1', 'READY=1', 'STOPPING=1']);
    } finally {
      await daemon.dispose();
    }
  });
});
