import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { TestHost } from '../support/host.ts';
import { TestSwarm } from '../support/swarm.ts';
import { untilHolds } from '../support/writer.ts';

describe('a volume of varve in a Swarm service', function () {
  this.timeout(120_000);
  let host: TestHost;
  let swarm: TestSwarm;

  before(async () => {
    host = await TestHost.start();
    swarm = await TestSwarm.start(host);
  });
  after(async () => {
    try {
      await swarm?.leave();
    } finally {
      await host?.stop();
    }
  });

  /** Each task adds a line, with the value of a variable that an update may set. */
  const script = 'echo "task $ROUND" >> /data/log; exec sleep 10000';
  const log = async () => join(await host.dataPath('db'), 'log');
  /** Whatever runs of the service has the volume, and nothing else does. */
  const checkMounts = async (container: string) => {
    const { root } = await host.mountOf(container, '/data');
    expect((await host.dataPath('db')).endsWith(root)).to.equal(true);
    await until('the task before to give its volume back', 20_000, async () => {
      const { consumers } = await host.volume('db');
      return consumers.length === 1 && consumers[0]?.count === 1;
    });
    expect(host.mounts()).to.deep.equal([(await host.volume('db')).mountPoint]);
  };

  it('S12 a service waits for a plugin that is not there, and runs once varve is, with its options', async () => {
    await host.daemon.stop();
    await swarm.createService('app', 'db', ['mode=0711', 'uid=1000'], script);
    await until('the task to wait', 20_000, async () => {
      const [task] = await swarm.tasks('app');
      return task?.state.startsWith('Pending') && /missing plugin on 1 node/.test(task.error);
    });
    await host.daemon.start();
    // An engine tells Swarm of the drivers that it has met, and it meets a new one when it lists the volumes.
    expect(await host.listed()).to.deep.equal([]);
    const { container } = await swarm.untilRunning('app');
    expect((await host.volumes()).map(({ name }) => name)).to.deep.equal(['db']);
    expect(lstatSync(await host.dataPath('db'))).to.include({ mode: 0o40_711, uid: 1000 });
    await untilHolds(await log(), 'task \n');
    await checkMounts(container);
  });

  it('S5 a task whose container is killed is replaced, on the same data', async () => {
    const first = await swarm.untilRunning('app');
    await host.docker('kill', first.container);
    const second = await swarm.untilRunning('app', [first.task]);
    expect(second.container).not.to.equal(first.container);
    await checkMounts(second.container);
    await untilHolds(await log(), 'task \ntask \n');
    expect(await host.sh(second.container, 'cat /data/log')).to.equal('task \ntask');
  });

  for (const [title, option, line] of [
    ['--force', '--force', 'task '],
    ['a new environment', '--env-add=ROUND=two', 'task two'],
  ] as const) {
    it(`S5 service update with ${title} keeps the data`, async () => {
      const before = readFileSync(await log(), 'utf8');
      const old = await swarm.untilRunning('app');
      await host.docker('service', 'update', '--detach', '--no-resolve-image', option, 'app');
      const { container } = await swarm.untilRunning('app', [old.task]);
      await checkMounts(container);
      await untilHolds(await log(), `${before}${line}\n`);
    });
  }

  it('S5 service rm leaves the volume, unmounted, and the next service finds it', async () => {
    const before = readFileSync(await log(), 'utf8');
    await swarm.removeService('app');
    expect(host.mounts()).to.deep.equal([]);
    expect((await host.volume('db')).consumers).to.deep.equal([]);
    await swarm.createService('again', 'db', [], script);
    const { container } = await swarm.untilRunning('again');
    await untilHolds(await log(), `${before}task \n`);
    expect(await host.sh(container, 'cat /data/log')).to.equal(`${before}task`);
  });

  it('S13 an option that varve refuses rejects the task, in the words of varve, and creates nothing', async () => {
    await swarm.createService('bad', 'typo', ['siez=1g'], script);
    await until('the task to be rejected', 20_000, async () => {
      const tasks = await swarm.tasks('bad');
      return tasks.some(
        ({ state, error }) =>
          state.startsWith('Rejected') && /unknown option "siez"; did you mean/.test(error),
      );
    });
    expect((await host.volumes()).map(({ name }) => name)).to.deep.equal(['db']);
  });
});
