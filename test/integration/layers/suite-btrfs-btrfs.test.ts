import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('btrfs', 'btrfs');
