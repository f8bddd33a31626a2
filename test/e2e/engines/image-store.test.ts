import { lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { docker, importImage, inContainer, startContainer } from '../../support/containers.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { startEngine, type TestEngine } from '../../support/engine.ts';
import { volumesOf } from '../../support/host.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { untilHolds } from '../../support/writer.ts';

/** From 26 on an engine can keep its images in containerd; an older one keeps its own store and says nothing. */
describe('an engine that is asked to keep its images in containerd', function () {
  this.timeout(60_000);
  let engine: TestEngine;
  let daemon: TestDaemon;
  let scratch: Scratch;

  before(async () => {
    scratch = await Scratch.make();
    const config = join(scratch.path, 'daemon.json');
    writeFileSync(config, JSON.stringify({ features: { 'containerd-snapshotter': true } }));
    daemon = await startDaemon();
    engine = await startEngine({ args: ['--config-file', config] });
    await importImage(engine, 'full', { 'data/file': { text: 'image\n', mode: '0640', owner: '1000:1001' } });
  });
  after(async () => {
    await engine?.stop();
    await daemon?.dispose();
    await scratch?.remove();
  });

  const dataPath = async (name: string) => {
    const number = (await volumesOf(daemon)).find(volume => volume.name === name)?.number;
    return join(daemon.root, 'pools/default', String(number), 'data');
  };
  const use = (name: string) => ['-v', `${name}:/data`, '--volume-driver', daemon.driver];

  it('S11 first use copies the files of the image into a volume, with owner and mode', async () => {
    const driver = await docker(engine, 'info', '--format', '{{.Driver}}');
    expect(driver).to.equal(engine.major >= 26 ? 'overlayfs' : 'overlay2');
    expect(
      await inContainer(engine, use('first'), 'cat /data/file; stat -c "%u:%g %a" /data/file', 'full'),
    ).to.equal('image\n1000:1001 640');
    await docker(engine, 'volume', 'rm', 'first');
  });

  it('S13 docker cp, a restart of the container and the end of it leave the data and no mount', async () => {
    const once = 'test -e /data/a || echo kept > /data/a; exec sleep 1000';
    const id = await startContainer(engine, use('second'), once);
    const data = await dataPath('second');
    await untilHolds(join(data, 'a'), 'kept\n');
    const copied = join(scratch.path, 'copied');
    await docker(engine, 'restart', id);
    await docker(engine, 'cp', `${id}:/data/a`, copied);
    expect(readFileSync(copied, 'utf8')).to.equal('kept\n');
    await docker(engine, 'exec', id, 'touch', '/data/b');
    await docker(engine, 'rm', '--force', id);
    const { body } = await daemon.plugin('VolumeDriver.Get', { Name: 'second' });
    expect((body as { Volume: { Mountpoint: string } }).Volume.Mountpoint).to.equal('');
    expect(lstatSync(join(data, 'b')).isFile()).to.equal(true);
    await docker(engine, 'volume', 'rm', 'second');
  });
});
