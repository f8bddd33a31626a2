import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('overlay', 'xfs', { isFirst: false, copiesOnWrite: 'block', deepest: 50 });
