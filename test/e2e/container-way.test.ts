import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { parseMountinfo, readMountinfo } from '../../src/host/linux/mountinfo.ts';
import { docker, inContainer, refused, startContainer } from '../support/containers.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { buildPlugin } from '../support/plugin-script.ts';
import { VarveContainer } from '../support/varve-container.ts';
import { isGapless, untilLonger, writer } from '../support/writer.ts';

const image = 'varve:test';

describe('varve in a container of the engine that it serves', function () {
  this.timeout(120_000);
  let engine: TestEngine;
  let varve: VarveContainer;

  before(async function () {
    this.timeout(900_000);
    engine = await startEngine();
    await buildPlugin(engine);
  });
  after(() => engine?.stop());
  beforeEach(async () => {
    varve = await VarveContainer.prepare(engine, image);
  });
  afterEach(async () => {
    // Before varve goes, whom the engine would call in vain.
    await engine.docker('rm', '--force', 'app');
    await engine.docker('rm', '--force', 'varve');
    await varve.dispose();
  });

  const use = (volume: string) => ['-v', `${volume}:/data`, '--volume-driver', varve.driver];
  const logOf = async (volume: string) => join(await varve.dataPath(volume), 'log');

  /** Starts a container that writes. @returns where its bytes are on this machine */
  async function startWriter(): Promise<string> {
    await startContainer(engine, ['--name', 'app', ...use('vol')], writer('/data/log'));
    const log = await logOf('vol');
    await untilLonger(log);
    return log;
  }

  describe('on a shared mount', () => {
    beforeEach(async () => {
      await varve.share();
      await varve.start();
    });

    it('S12 serves volumes, configured by a file; the command of this machine and that of the image reach it', async () => {
      const { stdout: status } = await varve.varve('status');
      expect(status).to.include(varve.root).and.to.include(varve.driver);
      const log = await startWriter();
      expect(varve.mounts()).to.deep.equal([(await varve.volume('vol')).mountPoint]);
      expect((await varve.varve('volume', 'ls')).stdout).to.match(/^vol .* 1 /m);
      const socket = `${varve.run}:/run/varve`;
      const listed = await docker(
        engine,
        ...['run', '--rm', '--network', 'none', '-v', socket, image, 'volume', 'ls'],
      );
      expect(listed).to.match(/^vol .* 1 /m);
      const { exitCode, stderr } = await varve.varve('volume', 'rm', 'vol');
      expect(exitCode, stderr).not.to.equal(0);
      expect(stderr).to.match(/volume vol is in use: process \d+ has it mounted on \/data/);
      await docker(engine, 'stop', '--time', '5', 'app');
      expect(isGapless(readFileSync(log, 'utf8'))).to.equal(true);
      expect(varve.mounts()).to.deep.equal([]);
      await docker(engine, 'rm', 'app');
      await docker(engine, 'volume', 'rm', 'vol');
      expect((await varve.varve('volume', 'ls')).stdout).not.to.include('vol ');
    });

    const replacements = {
      'docker restart': () => [['restart', 'varve']],
      'docker kill and docker start': () => [
        ['kill', 'varve'],
        ['start', 'varve'],
      ],
      'docker rm --force and docker run, as in an upgrade': () => [['rm', '--force', 'varve'], varve.words()],
    };
    for (const [how, commands] of Object.entries(replacements)) {
      it(`S13 ${how}: containers write on, mounts and consumers are adopted, the next calls work`, async () => {
        const log = await startWriter();
        const before = await adopted();
        for (const words of commands()) await docker(engine, ...words);
        await varve.untilUp();
        expect(await adopted()).to.deep.equal(before);
        await untilLonger(log);
        expect(await inContainer(engine, use('vol'), 'head -n 1 /data/log')).to.equal('1');
        await docker(engine, 'cp', 'app:/data/log', join(varve.run, 'copy'));
        expect(await adopted()).to.deep.equal(before);
        await docker(engine, 'volume', 'create', '--driver', varve.driver, 'other');
        await docker(engine, 'volume', 'rm', 'other');
        expect(await docker(engine, 'logs', 'app')).to.equal('');
        await docker(engine, 'rm', '--force', 'app');
        expect(varve.mounts()).to.deep.equal([]);
        expect(isGapless(readFileSync(log, 'utf8'))).to.equal(true);
        await docker(engine, 'volume', 'rm', 'vol');
      });
    }

    it('S13 an engine that starts again starts varve and what uses it', async () => {
      await startContainer(
        engine,
        ['--name', 'app', '--restart', 'always', ...use('vol')],
        writer('/data/log'),
      );
      await untilLonger(await logOf('vol'));
      await engine.restart();
      await varve.untilUp();
      await untilLonger(await logOf('vol'));
      expect(await docker(engine, 'inspect', '--format', '{{.State.Running}}', 'app')).to.equal('true');
      await docker(engine, 'rm', '--force', 'app');
      await docker(engine, 'volume', 'rm', 'vol');
      expect(varve.mounts()).to.deep.equal([]);
    });
  });

  describe('with an option of docker run left out', () => {
    const runApp = () =>
      refused(engine, 'run', '--name', 'app', '--network', 'none', ...use('vol'), 'busybox', 'true');

    it('S13 a root that is no shared mount is refused by the engine', async () => {
      const said = await refused(engine, ...varve.words());
      expect(said).to.include(`path ${varve.root} is mounted on`).and.to.include('not a shared mount');
    });

    it('S13 without rshared Mount is refused, and says what to do', async () => {
      await varve.share();
      await varve.start(varve.words({ propagation: '' }));
      expect(await runApp()).to.match(/does not see mounts made under .*rshared/);
      expect(varve.mounts()).to.deep.equal([]);
    });

    it('S13 without --pid host it does not start, since nobody could tell who uses a volume', async () => {
      await varve.share();
      await docker(engine, ...varve.words({ pid: [] }));
      await until('varve to say why', 30_000, async () =>
        (await engine.docker('logs', varve.name)).stderr.includes('docker run --pid host'),
      );
    });
  });

  /** What must be as before: our mounts with their ids, that of the container, and who is known to use the volume. */
  async function adopted(): Promise<unknown> {
    const { consumers, mountPoint } = await varve.volume('vol');
    const pid = await docker(engine, 'inspect', '--format', '{{.State.Pid}}', 'app');
    const inContainer = parseMountinfo(readMountinfo(Number(pid))).filter(
      entry => entry.mountPoint === '/data',
    );
    const ours = parseMountinfo(readMountinfo('self')).filter(entry => entry.mountPoint === mountPoint);
    return { ours, inContainer, counts: consumers.map(({ mountId, count }) => [mountId, count]) };
  }
});
