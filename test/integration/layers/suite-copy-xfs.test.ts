import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('copy', 'xfs', { isFirst: false, copiesOnWrite: 'block' });
