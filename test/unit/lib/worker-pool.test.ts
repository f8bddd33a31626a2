import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { Aborted, Internal, InvalidArgument } from '../../../src/errors/errors.ts';
import { WorkerPool } from '../../../src/lib/worker-pool.ts';
import { rejection } from '../../support/rejection.ts';

const script = new URL('./worker-tasks.ts', import.meta.url);

/** Shared with `spin`: whether it may end, and how many of it have begun. */
const spinFlag = () => new Int32Array(new SharedArrayBuffer(8));
const begun = (flag: Int32Array, count: number) =>
  until(`${count} tasks begin`, 5000, () => Atomics.load(flag, 1) === count);

describe('worker pool', () => {
  let pool: WorkerPool;

  beforeEach(() => {
    pool = new WorkerPool(script, { size: 2, idleMs: 60_000 });
  });

  afterEach(() => pool.close());

  it('gives what the task gives', async () => {
    expect(await pool.run('double', 21)).to.equal(42);
  });

  it('keeps class, message and cause of an error', async () => {
    const error = await rejection(pool.run('refuse', 'this'));
    expect(error).to.be.instanceOf(InvalidArgument).with.property('message', 'bad: this');
    expect(error).to.have.nested.property('cause.message', 'below');
    expect(await rejection(pool.run('crash', 0))).to.be.instanceOf(TypeError);
  });

  it('fails a task that nobody knows, and one whose result cannot be sent', async () => {
    expect(await rejection(pool.run('nothing', 0))).to.be.instanceOf(Internal);
    expect(await rejection(pool.run('unclonable', 0)))
      .to.have.property('message')
      .that.matches(/could not be cloned/);
    expect(await pool.run('double', 1)).to.equal(2);
  });

  it('fails the task of a worker that dies, and goes on with another', async () => {
    expect(await rejection(pool.run('exit', 0))).to.be.instanceOf(Internal);
    expect(await pool.run('double', 2)).to.equal(4);
  });

  it('reports progress before the result', async () => {
    const seen: unknown[] = [];
    expect(await pool.run('count', 3, { onProgress: value => seen.push(value) })).to.equal('counted');
    expect(seen).to.deep.equal([1, 2, 3]);
  });

  it('runs as many tasks at one time as it has workers, and the others after them', async () => {
    const flag = spinFlag();
    const spinning = [1, 2].map(() => pool.run('spin', flag));
    await begun(flag, 2);
    const order: number[] = [];
    const later = [5, 6].map(async value => order.push(await pool.run<number>('double', value)));
    expect(order).to.deep.equal([]);
    Atomics.store(flag, 0, 1);
    await Promise.all([...spinning, ...later]);
    expect(order).to.have.members([10, 12]);
  });

  it('stops a task that never lets go of its thread', async () => {
    const flag = spinFlag();
    const controller = new AbortController();
    const spinning = rejection(pool.run('spin', flag, { signal: controller.signal }));
    await begun(flag, 1);
    controller.abort();
    expect(await spinning).to.be.instanceOf(Aborted);
    expect(await pool.run('double', 3)).to.equal(6);
  });

  it('does not begin a task that was stopped while it waited', async () => {
    const [flag, never] = [spinFlag(), spinFlag()];
    const controller = new AbortController();
    const spinning = [1, 2].map(() => pool.run('spin', flag));
    await begun(flag, 2);
    const waiting = rejection(pool.run('spin', never, { signal: controller.signal }));
    controller.abort();
    expect(await waiting).to.be.instanceOf(Aborted);
    expect(await rejection(pool.run('double', 1, { signal: controller.signal }))).to.be.instanceOf(Aborted);
    Atomics.store(flag, 0, 1);
    await Promise.all(spinning);
    expect(Atomics.load(never, 1)).to.equal(0);
  });

  it('stops what runs and waits when it is closed, and begins nothing more', async () => {
    const flag = spinFlag();
    const spinning = [1, 2, 3].map(() => rejection(pool.run('spin', flag)));
    await begun(flag, 2);
    await pool.close();
    for (const error of await Promise.all(spinning)) expect(error).to.be.instanceOf(Aborted);
    expect(await rejection(pool.run('double', 1))).to.be.instanceOf(Aborted);
  });

  it('ends a worker that has had no work for a while', async () => {
    const brief = new WorkerPool(script, { size: 1, idleMs: 1 });
    const workers = () => process.getActiveResourcesInfo().filter(name => name === 'MessagePort').length;
    const before = workers();
    const flag = spinFlag();
    const spinning = brief.run('spin', flag);
    await begun(flag, 1);
    expect(workers()).to.be.greaterThan(before);
    Atomics.store(flag, 0, 1);
    await spinning;
    await until('the worker ends', 5000, () => workers() === before);
    await brief.close();
  });

  it('lets the process end while workers are idle', () => {
    const source = `import('${new URL('../../../src/lib/worker-pool.ts', import.meta.url)}')
      .then(({ WorkerPool }) => new WorkerPool(new URL('${script}'), { size: 1, idleMs: 3_600_000 }))
      .then(pool => pool.run('double', 4))
      .then(console.log);`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', source], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect({ status, stdout, stderr }).to.deep.equal({ status: 0, stdout: '8\n', stderr: '' });
  });
});
