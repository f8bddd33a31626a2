import type { LayerExceptions, LayerWorld } from '../support/layer-world.ts';
import { layerArchiveSuite } from './layer-archives.ts';
import { layerFreezeSuite } from './layer-freeze.ts';
import { layerGraphSuite } from './layer-graph.ts';
import { layerIssueSuite } from './layer-issues.ts';
import { layerLimitSuite } from './layer-limits.ts';
import { layerMergeSuite } from './layer-merge.ts';
import { layerMetadataSuite } from './layer-metadata.ts';
import { layerOfSuite } from './layer-of.ts';
import { layerSharingSuite } from './layer-sharing.ts';
import { layerSnapshotSuite } from './layer-snapshots.ts';

/** How many layers the metadata suite lists on a real disk. */
const many = 100;

/** What every `LayerStore` does on a real disk, with layers that are really mounted. */
export function layerStoreSuite(open: () => Promise<LayerWorld>, exceptions: LayerExceptions): void {
  const title = `${exceptions.driver} on ${exceptions.fileSystem}`;
  if (exceptions.isFirst) layerMetadataSuite(open, many);
  describe('snapshots', () => layerSnapshotSuite(open, exceptions));
  describe('issues', () => layerIssueSuite(open, exceptions));
  describe('graphtest', () => layerGraphSuite(open, exceptions));
  describe('archives', () => layerArchiveSuite(open, title));
  describe('freeze', () => layerFreezeSuite(open, exceptions));
  describe('merge', () => layerMergeSuite(open, exceptions));
  describe('layerOf', () => layerOfSuite(open, exceptions.limits));
  describe('limits', () => layerLimitSuite(open, exceptions));
  describe('sharing', () => layerSharingSuite(open, exceptions));
}
