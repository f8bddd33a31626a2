import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { layerIssueSuite } from '../../suites/layer-issues.ts';
import { layerMetadataSuite } from '../../suites/layer-metadata.ts';
import { layerSnapshotSuite } from '../../suites/layer-snapshots.ts';
import { layerExceptions } from '../../support/layer-runs.ts';
import { SnapshotsHost } from '../../support/snapshots-world.ts';

describe('LayerStore: as containerd sees it, through the socket of a snapshotter', function () {
  this.timeout(60_000);
  let host: SnapshotsHost;

  before(async () => {
    host = await SnapshotsHost.make({ sync: 'later' });
  });
  after(() => host?.remove());

  const open = () => host.open();
  const exceptions = layerExceptions('overlay', 'ext4');

  it('S3 with `sync: later`, brings layers to the disk in the background', async () => {
    const world = await open();
    try {
      await world.store.prepare('key');
      host.hold('none');
      await world.store.commit('name', 'key');
      expect([...host.daemon.hits()])
        .to.include('layer.record:after')
        .and.not.to.include('layer.sync:before');
      await until('the next look of the daemon', 10_000, () => host.daemon.hits().has('layer.sync:after'));
    } finally {
      await world.close();
    }
  });

  layerMetadataSuite(open, 101);
  describe('snapshots', () => layerSnapshotSuite(open, exceptions));
  describe('issues', () => layerIssueSuite(open, exceptions));
});
