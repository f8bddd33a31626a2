import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { connections } from '../support/connections.ts';
import { endFio, startFio } from '../support/fio.ts';
import { holdSocket } from '../support/held-socket.ts';
import { TestHost, untilCalled } from '../support/host.ts';
import { isGapless, writer } from '../support/writer.ts';

interface Round {
  readonly end: 'stop' | 'kill9';
  /** Whose the plugin socket is: the daemon's own is gone or dead while it is away, systemd's stays. */
  readonly socket: 'own' | 'passed';
}

const rounds: readonly Round[] = [
  { end: 'stop', socket: 'own' },
  { end: 'stop', socket: 'own' },
  { end: 'kill9', socket: 'own' },
  { end: 'stop', socket: 'own' },
  { end: 'kill9', socket: 'own' },
  { end: 'stop', socket: 'passed' },
  { end: 'stop', socket: 'passed' },
  { end: 'kill9', socket: 'passed' },
  { end: 'kill9', socket: 'passed' },
  { end: 'stop', socket: 'passed' },
];

describe('varve is replaced while containers write', function () {
  this.timeout(180_000);
  let host: TestHost;
  let held: ReturnType<typeof holdSocket> | undefined;

  before(async () => {
    host = await TestHost.start();
  });
  after(async () => {
    await host?.stop();
    held?.close();
  });
  afterEach(() => host.clear());

  const use = (volume: string) => ['-v', `${volume}:/data`, '--volume-driver', host.daemon.driver];

  /** Lets `docker run` come as far as the mount, and no further. @returns its end, whatever it is */
  async function startHeld(): Promise<{ readonly ended: ReturnType<typeof host.engine.docker> }> {
    const before = host.daemon.calls();
    host.daemon.faults({ 'publish.mount:before': 'hold' });
    const words = ['run', '--detach', '--name', 'app', '--network', 'host', ...use('vol')];
    const ended = host.engine.docker(...words, 'busybox', 'sleep', '1000');
    await untilCalled(host.daemon, 'Mount', before);
    return { ended };
  }

  it('S13 a Mount under way when varve is stopped is answered', async () => {
    const { ended } = await startHeld();
    const stopping = host.daemon.stop();
    await until('the signal to arrive', 10_000, () => host.daemon.log().includes('SIGTERM: stopping'));
    host.daemon.faults({});
    await stopping;
    expect(await host.daemon.ended()).to.deep.equal({ code: 0, signal: null });
    const { exitCode, stderr } = await ended;
    expect(exitCode, stderr).to.equal(0);
    await host.sh('app', 'echo written > /data/x');
    const mounts = host.mountEntries();
    expect(mounts).to.have.length(1);
    await host.daemon.start();
    expect(host.mountEntries()).to.deep.equal(mounts);
    expect((await host.volume('vol')).consumers.map(({ count }) => count)).to.deep.equal([1]);
    expect(readFileSync(join(await host.dataPath('vol'), 'x'), 'utf8')).to.equal('written\n');
  });

  it('S13 a Mount under way when varve is killed is refused, since its repetition is empty, and nothing is half done', async () => {
    const { ended } = await startHeld();
    await host.daemon.kill9();
    expect(host.mounts()).to.deep.equal([]);
    host.daemon.faults({});
    await host.daemon.start();
    const { exitCode, stderr } = await ended;
    expect(stderr).to.include('VolumeDriver.Mount').and.to.include('is missing');
    expect(exitCode).to.equal(125);
    expect(await host.docker('inspect', '--format', '{{.State.Status}}', 'app')).to.equal('created');
    await host.docker('start', 'app');
    await host.sh('app', 'echo written > /data/x');
    expect(readFileSync(join(await host.dataPath('vol'), 'x'), 'utf8')).to.equal('written\n');
  });

  it('S13 ten restarts: no I/O error, mounts and consumers adopted, the next calls of the engine work', async () => {
    await host.createVolume('vol');
    await startFio(host, 'fio', 'vol');
    await host.startContainer('lines', use('vol'), writer('/data/lines'));
    const data = await host.dataPath('vol');
    await untilWritten(data);
    const before = await adopted();
    for (const [index, round] of rounds.entries()) {
      await replace(round, `gap-${index}`, data);
      expect(await adopted(), JSON.stringify(round)).to.deep.equal(before);
      await useEngine(`gap-${index}`);
      expect(await adopted(), `calls after ${JSON.stringify(round)}`).to.deep.equal(before);
    }
    const { exitCode, report } = await endFio(host, 'fio');
    expect(report.error).to.equal(0);
    expect(exitCode).to.equal(0);
    expect(report.read.total_ios, 'blocks that were verified').to.be.greaterThan(1000);
    expect(await host.docker('logs', 'lines')).to.equal('');
    await host.docker('stop', '--time', '5', 'lines');
    expect(isGapless(readFileSync(join(data, 'lines'), 'utf8'))).to.equal(true);
    expect(host.mounts()).to.deep.equal([]);
    expect((await host.volume('vol')).consumers).to.deep.equal([]);
  });

  /** Ends the daemon, makes a call while it is away, and starts it again. */
  async function replace({ end, socket }: Round, volume: string, data: string): Promise<void> {
    await host.daemon[end]();
    if (socket === 'passed') held ??= holdSocket(host.daemon.socket);
    const isWaiting = socket === 'passed' ? queued() : missed();
    const creating = host.createVolume(volume);
    await until(`the engine to call (${end}, ${socket})`, 20_000, isWaiting);
    await untilWritten(data);
    await host.daemon.start({ passed: held ? { [host.daemon.driver]: held.fd } : {} });
    await creating;
  }

  /** Whether the engine has tried to connect in vain, since now. */
  function missed(): () => boolean {
    const { length } = readFileSync(host.engine.log, 'utf8');
    return () => readFileSync(host.engine.log, 'utf8').slice(length).includes('Unable to connect to plugin');
  }

  function queued(): () => boolean {
    return () => connections(host.daemon.socket) > 0;
  }

  /** A container on the same volume, a copy out of a running one, and the end of a volume. */
  async function useEngine(spare: string): Promise<void> {
    const [first] = (await host.run(['--rm', ...use('vol')], 'head', '-n', '1', '/data/lines')).split('\n');
    expect(first).to.equal('1');
    const copy = join(host.daemon.directory, spare);
    await host.docker('cp', 'lines:/data/lines', copy);
    expect(isGapless(readFileSync(copy, 'utf8').replace(/[^\n]*$/, ''))).to.equal(true);
    await host.docker('volume', 'rm', spare);
  }

  /** What must be as before: our mount with its id, those of the containers, and who is known to use the volume. */
  async function adopted(): Promise<unknown> {
    const inContainers = await Promise.all(['fio', 'lines'].map(name => host.mountOf(name, '/data')));
    const { consumers, mountPoint } = await host.volume('vol');
    const shown = (await host.inspectVolume('vol')).Status['consumers'];
    const counts = consumers.map(({ mountId, count }) => [mountId, count]);
    return { mounts: host.mountEntries(), inContainers, counts, mountPoint, shown };
  }

  /** Waits until both containers have written on. */
  async function untilWritten(data: string): Promise<void> {
    const [fio, lines] = [join(data, 'fio'), join(data, 'lines')];
    const stamp = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    const before = [fio, lines].map(stamp);
    await until('the containers to write on', 20_000, () =>
      [fio, lines].every((path, index) => stamp(path) > (before[index] ?? 0)),
    );
  }
});
