import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { TestHost } from '../../support/host.ts';
import { isGapless, writer } from '../../support/writer.ts';

describe('varve ends while containers write', () => {
  let host: TestHost;

  before(async () => {
    host = await TestHost.start();
  });
  after(() => host?.stop());
  afterEach(() => host.clear());

  const containers = ['one', 'two'];
  const logOf = async (container: string) => join(await host.dataPath(container), 'log');

  const lengthOf = (file: string) => (existsSync(file) ? statSync(file).size : 0);
  /** Waits until each file has become longer. */
  async function untilWritten(files: readonly string[]): Promise<void> {
    const lengths = files.map(lengthOf);
    await until('the containers to write on', 10_000, () =>
      files.every((file, index) => lengthOf(file) > (lengths[index] ?? 0)),
    );
  }

  async function startWriters(): Promise<readonly string[]> {
    for (const name of containers) {
      const options = ['-v', `${name}:/data`, '--volume-driver', host.daemon.driver];
      await host.startContainer(name, options, writer('/data/log'));
    }
    const files = await Promise.all(containers.map(logOf));
    await untilWritten(files);
    return files;
  }

  for (const [how, end] of [
    ['stopped', () => host.daemon.stop()],
    ['killed', () => host.daemon.kill9()],
  ] as const) {
    it(`S13 ${how} and started again: no write fails, its consumers are known, and a stop unmounts`, async () => {
      const files = await startWriters();
      const mounts = host.mountEntries();
      const consumers = await Promise.all(containers.map(consumersOf));
      for (const round of ['first', 'second']) {
        await end();
        expect(host.mountEntries(), round).to.deep.equal(mounts);
        await untilWritten(files);
        await host.daemon.start();
        expect(host.mountEntries(), round).to.deep.equal(mounts);
        expect(await Promise.all(containers.map(consumersOf)), round).to.deep.equal(consumers);
      }
      await host.docker('stop', '--time', '0', 'one');
      expect(await host.volume('one')).to.deep.include({ consumers: [], mountPoint: '' });
      expect(host.mounts()).to.deep.equal([(await host.volume('two')).mountPoint]);
      await untilWritten(files.slice(1));
      await host.docker('stop', '--time', '0', 'two');
      expect(host.mounts()).to.deep.equal([]);
      for (const name of containers) expect(await host.docker('logs', name)).to.equal('');
      for (const file of files) expect(isGapless(readFileSync(file, 'utf8')), file).to.equal(true);
      await host.docker('start', 'one');
      await untilWritten(files.slice(0, 1));
    });
  }

  it('S13 a container that ends while varve is away holds neither its volume nor a mount', async () => {
    await startWriters();
    await host.daemon.kill9();
    const removing = host.docker('rm', '--force', 'one');
    await until('dockerd to miss varve', 20_000, () =>
      readFileSync(host.engine.log, 'utf8').includes('Unable to connect to plugin'),
    );
    await host.daemon.start();
    await removing;
    await host.docker('volume', 'rm', 'one');
    expect(host.mounts()).to.deep.equal([(await host.volume('two')).mountPoint]);
    await untilWritten([await logOf('two')]);
  });

  async function consumersOf(name: string): Promise<readonly (readonly [string, number])[]> {
    return (await host.volume(name)).consumers.map(({ mountId, count }) => [mountId, count] as const);
  }
});
