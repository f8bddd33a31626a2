import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('copy', 'tmpfs');
