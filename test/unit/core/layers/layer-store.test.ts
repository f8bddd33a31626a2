import { layerMetadataSuite } from '../../../suites/layer-metadata.ts';
import { openMemoryLayers } from '../../../support/memory-layer-world.ts';

describe('LayerStore: records over a disk in memory', () => layerMetadataSuite(openMemoryLayers, 10_000));
