import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('overlay', 'ext4');
