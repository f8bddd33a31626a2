import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { docker, refused, startContainer } from '../../support/containers.ts';
import { onLaterEngines, type TestEngine } from '../../support/engine.ts';
import { LoopDisk } from '../../support/loop-disk.ts';
import { SnapshotterHost } from '../../support/snapshotter-host.ts';

const mebibyte = 1024 * 1024;

/** The image store of an engine passes no limit on; that of one container is kept where it can be set later on. */
onLaterEngines(() =>
  describe('the limit of one container of Docker with its images in varve, on btrfs', function () {
    this.timeout(120_000);
    let scratch: string;
    let host: SnapshotterHost;
    let engine: TestEngine;

    before(async () => {
      scratch = mkdtempSync(join(tmpdir(), 'varve-limit-'));
      const [disk, socket] = [join(scratch, 'disk'), join(scratch, 'docker.sock')];
      mkdirSync(disk);
      await (await LoopDisk.make(join(scratch, 'image'), 400, 'btrfs')).mount(disk);
      host = await SnapshotterHost.start({ disk, config: { engine: `unix://${socket}` } });
      engine = await host.startEngine();
      symlinkSync(engine.socket, socket);
    });

    after(async () => {
      await engine?.stop();
      await host?.stop();
      await LoopDisk.unmount(join(scratch, 'disk'));
      rmSync(scratch, { recursive: true, force: true });
    });

    it('is kept for what is written from then on, and shown', async () => {
      const id = await startContainer(engine, ['--storage-opt', 'size=16M'], 'exec sleep 1000');
      const layer = await until('the limit', 10_000, async () =>
        (await host.list()).find(({ name, limit }) => name.endsWith(id) && limit !== null),
      );
      expect(layer.limit).to.deep.equal({ bytes: 16 * mebibyte });
      const write = (count: number) => {
        const words = ['if=/dev/zero', 'of=/file', 'bs=1M', `count=${count}`, 'conv=fsync'];
        return ['exec', id, 'dd', ...words];
      };
      await docker(engine, ...write(8));
      expect(await refused(engine, ...write(24))).to.match(/quota exceeded|No space left/i);
    });
  }),
);
