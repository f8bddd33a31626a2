import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { connections } from '../../support/connections.ts';
import { startDaemon } from '../../support/daemon.ts';
import { callsSince, TestHost, untilCalled } from '../../support/host.ts';
import { isGapless, writer } from '../../support/writer.ts';

/** Labels and options of a volume live in dockerd alone, which deletes them at the first doubt. */
const labelled = ['--label', 'team=storage', '--opt', 'mode=0750'];
const kept = { Labels: { team: 'storage' }, Options: { mode: '0750' } };

describe('what moby never tests of a volume plugin', () => {
  let host: TestHost;
  let driver: string;

  before(async () => {
    host = await TestHost.start();
    driver = host.daemon.driver;
  });
  after(() => host?.stop());
  afterEach(() => host.clear());

  describe('dockerd killed with a container running', () => {
    it('S13 mounts the same id again at each next start, and the volume can be removed after that', async () => {
      await host.startContainer('app', ['-v', 'vol:/data', '--volume-driver', driver], writer('/data/log'));
      const { consumers, mountPoint } = await host.volume('vol');
      const ids = consumers.map(({ mountId }) => mountId);
      expect(ids).to.have.length(1);
      for (const round of ['first', 'second']) {
        await host.engine.kill9();
        expect(host.mounts(), round).to.deep.equal([mountPoint]);
        await host.engine.restart();
        await host.docker('start', 'app');
        const now = (await host.volume('vol')).consumers.map(({ mountId }) => mountId);
        expect(now, round).to.deep.equal(ids);
        expect(host.mounts(), round).to.deep.equal([mountPoint]);
      }
      await host.docker('stop', '--time', '0', 'app');
      expect(await host.docker('logs', 'app')).to.equal('');
      await host.docker('rm', 'app');
      await host.docker('volume', 'rm', 'vol');
      expect(host.mounts()).to.deep.equal([]);
    });
  });

  describe('an error of varve while dockerd starts', () => {
    beforeEach(() => host.createVolume('vol', ...labelled));

    it('S13 makes the engine forget nothing, and neither does the empty repetition of its question', async () => {
      host.daemon.faults({ 'docker.VolumeDriver.Get': 'error' });
      const before = host.daemon.calls();
      const asked = () => callsSince(host.daemon, before)['Get'] ?? 0;
      const restarting = host.engine.restart();
      await until('dockerd to ask again', 30_000, () => asked() === 2);
      host.daemon.faults({});
      await restarting;
      expect(asked()).to.equal(5);
      expect(await host.inspectVolume('vol')).to.deep.include(kept);
    });

    it('S13 while varve still reads its state the engine waits, and forgets nothing', async () => {
      await host.daemon.stop();
      host.daemon.faults({ 'daemon.load': 'hold' });
      const starting = host.daemon.start();
      await until('the socket', 20_000, () => existsSync(host.daemon.socket));
      const restarting = host.engine.restart();
      await until('dockerd to connect', 20_000, () => connections(host.daemon.socket) > 0);
      host.daemon.faults({});
      await Promise.all([starting, restarting]);
      expect(await host.inspectVolume('vol')).to.deep.include(kept);
    });
  });

  /** dockerd repeats a request whose connection broke, and has no body left to send (moby#39331). */
  describe('a request that is repeated with an empty body', () => {
    /** Breaks the connection of the next such call, once. */
    async function breakOnce(
      method: string,
      action: 'drop' | 'lose',
      act: () => Promise<string>,
    ): Promise<string> {
      host.daemon.faults({ [`docker.VolumeDriver.${method}`]: action });
      const before = host.daemon.calls();
      const acting = act();
      await untilCalled(host.daemon, method, before);
      host.daemon.faults({});
      const message = await acting;
      expect(callsSince(host.daemon, before)[method]).to.equal(2);
      return message;
    }

    it('S13 Create that did not arrive is refused, and the next try makes the volume', async () => {
      expect(await breakOnce('Create', 'drop', () => host.createRefused('vol'))).to.include('is missing');
      expect(await host.volumes()).to.deep.equal([]);
      await host.createVolume('vol', ...labelled);
      expect(await host.inspectVolume('vol')).to.deep.include(kept);
    });

    it('S13 Create whose answer was lost is refused, and the next try finds the volume', async () => {
      const create = () => host.createRefused('vol', ...labelled);
      expect(await breakOnce('Create', 'lose', create)).to.include('is missing');
      expect((await host.volumes()).map(({ name }) => name)).to.deep.equal(['vol']);
      await host.createVolume('vol', ...labelled);
      expect((await host.volume('vol')).options).to.deep.equal({ mode: '0750' });
    });

    for (const action of ['drop', 'lose'] as const) {
      it(`S13 Mount (${action}) is refused, and the next try works and leaves nothing`, async () => {
        await host.createVolume('vol');
        await host.docker(
          'create',
          '--network',
          'none',
          '--name',
          'app',
          '-v',
          'vol:/data',
          'busybox',
          'sleep',
          '1000',
        );
        const start = () => host.refused('start', 'app');
        expect(await breakOnce('Mount', action, start)).to.include('is missing');
        expect(host.mounts()).to.have.length(action === 'drop' ? 0 : 1);
        await host.docker('start', 'app');
        await host.sh('app', 'echo hello > /data/x');
        await host.docker('rm', '--force', 'app');
        await host.docker('volume', 'rm', 'vol');
        expect(host.mounts()).to.deep.equal([]);
      });
    }

    it('S13 Remove that did not arrive is refused, the data stays, and the next try removes it', async () => {
      await host.run(
        ['--rm', '-v', 'vol:/data', '--volume-driver', driver],
        'sh',
        '-c',
        'echo hello > /data/x',
      );
      const data = await host.dataPath('vol');
      const remove = () => host.refused('volume', 'rm', 'vol');
      expect(await breakOnce('Remove', 'drop', remove)).to.include('is missing');
      expect(await readFile(join(data, 'x'), 'utf8')).to.equal('hello\n');
      await host.docker('volume', 'rm', 'vol');
      await until('the data to be gone', 10_000, () => !existsSync(data));
    });

    it('S13 Remove whose answer was lost is refused, and the next try finds nothing any more', async () => {
      await host.createVolume('vol');
      const remove = () => host.refused('volume', 'rm', 'vol');
      expect(await breakOnce('Remove', 'lose', remove)).to.include('is missing');
      expect(await host.volumes()).to.deep.equal([]);
      expect(await remove()).to.match(/no such volume/i);
      expect(await host.listed()).to.deep.equal([]);
    });
  });

  describe('a socket file that is there before varve', () => {
    it('S12 of a killed varve is replaced, and the engine goes on without a restart', async () => {
      await host.createVolume('vol', ...labelled);
      await host.daemon.kill9();
      expect(existsSync(host.daemon.socket)).to.equal(true);
      await host.daemon.start();
      expect(await host.inspectVolume('vol')).to.deep.include(kept);
    });

    it('S12 of a living process is refused, and that process keeps it', async () => {
      const drivers = { second: { socket: host.daemon.socket } };
      const second = await startDaemon({ start: false, config: { drivers } });
      try {
        const error = await second.start().then(() => undefined, String);
        expect(error).to.include(`another process listens on ${host.daemon.socket}`);
        expect((await second.ended()).code).to.not.equal(0);
        expect(existsSync(second.adminSocket), 'its admin socket').to.equal(false);
      } finally {
        await second.dispose();
      }
      await host.createVolume('vol');
    });
  });
});

describe('dockerd with --live-restore', () => {
  let host: TestHost;

  before(async () => {
    host = await TestHost.start({ args: ['--live-restore'] });
  });
  after(() => host?.stop());
  afterEach(() => host.clear());

  for (const [how, end] of [
    ['restarted', async () => {}],
    ['killed', () => host.engine.kill9()],
  ] as const) {
    it(`S13 ${how}: containers keep their volume, cp works, and rm after an end without Unmount loses nothing else`, async () => {
      await host.startContainer(
        'app',
        ['-v', 'vol:/data', '--volume-driver', host.daemon.driver],
        writer('/data/log'),
      );
      await host.createVolume('other');
      await host.run(['--rm', '-v', 'other:/data'], 'sh', '-c', 'echo kept > /data/x');
      const mount = await host.mountOf('app', '/data');
      const log = join(await host.dataPath('vol'), 'log');
      await end();
      await host.engine.restart();
      expect(await host.mountOf('app', '/data')).to.deep.equal(mount);
      await host.docker('cp', 'app:/etc/passwd', '-');
      const length = readFileSync(log).length;
      await until('the container to write on', 10_000, () => readFileSync(log).length > length);
      expect(await host.docker('logs', 'app')).to.equal('');
      expect((await host.volume('vol')).mountPoint).not.to.equal('');

      await host.docker('stop', '--time', '0', 'app');
      expect(isGapless(readFileSync(log, 'utf8'))).to.equal(true);
      await host.docker('rm', 'app');
      await host.docker('volume', 'rm', 'vol');
      expect((await host.volumes()).map(({ name }) => name)).to.deep.equal(['other']);
      expect(host.mounts()).to.deep.equal([]);
      expect(readFileSync(join(await host.dataPath('other'), 'x'), 'utf8')).to.equal('kept\n');
    });
  }
});
