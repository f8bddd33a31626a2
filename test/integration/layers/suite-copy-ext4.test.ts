import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('copy', 'ext4', { isFirst: false });
