import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('fuse-overlayfs', 'ext4');
