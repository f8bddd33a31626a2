import { runLayerStoreSuite } from '../../support/layer-runs.ts';

runLayerStoreSuite('overlay', 'btrfs', { isFirst: false, copiesOnWrite: 'block', deepest: 50 });
