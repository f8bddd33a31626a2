import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { GraphClient } from '../../support/graph-client.ts';
import type { GraphCrashWorld } from './graph-world.ts';

/** Something that an engine asks of its graph driver, and that a crash interrupts. */
export interface GraphOperation {
  /** Goes on from the layers `container` and `image`. */
  prepare?(world: GraphCrashWorld): Promise<unknown>;
  act(driver: GraphClient): Promise<unknown>;
  /** Looks at what there is when the daemon has started again, asks again as dockerd does, and looks again. */
  check(world: GraphCrashWorld): Promise<unknown>;
  /** The steps at which it is interrupted. */
  readonly steps: readonly string[];
}

const hold = ({ driver }: GraphCrashWorld) => driver.get('container');
const holdTwice = async (world: GraphCrashWorld) => [await hold(world), await hold(world)];

export const graphOperations: Readonly<Record<string, GraphOperation>> = {
  'the first Get': {
    act: driver => driver.get('container'),
    async check(world) {
      const uses = world.mounted().length;
      const path = await world.driver.get('container');
      expect(readFileSync(join(path, 'container'), 'utf8')).to.equal('container');
      writeFileSync(join(path, 'new'), '');
      // Nobody can know whether the first answer arrived.
      expect(await world.uses('container')).to.equal(uses + 1);
    },
    steps: ['graph.mount-point', 'graph.mount', 'graph.count'],
  },
  'the last Put': {
    prepare: ({ driver }) => driver.get('image'),
    act: driver => driver.put('image'),
    async check(world) {
      await world.driver.put('image');
      expect(world.mounted()).to.deep.equal([]);
      expect(await world.names()).to.deep.equal(['committed/image', 'container']);
    },
    steps: ['graph.remove-mount-point'],
  },
  'Create on a layer that is mounted': {
    prepare: hold,
    act: driver => driver.create('above', 'container'),
    async check(world) {
      expect(await world.names()).to.deep.equal(['committed/image', 'container']);
      expect(world.mounted()).to.deep.equal(['container']);
      await world.driver.create('above', 'container');
      await world.driver.within('above', path => {
        expect(readFileSync(join(path, 'container'), 'utf8')).to.equal('container');
      });
      expect(await world.uses('container')).to.equal(1);
    },
    steps: ['graph.protect'],
  },
  'Remove of a layer that is mounted': {
    prepare: hold,
    act: driver => driver.remove('container'),
    async check(world) {
      await world.driver.remove('container');
      expect(await world.names()).to.deep.equal(['committed/image']);
    },
    steps: ['graph.unmount', 'layer.record'],
  },
  'Init by an engine that has started anew': {
    prepare: holdTwice,
    act: driver => driver.init(),
    async check(world) {
      expect(world.mounted()).to.deep.equal(['container']);
      await world.driver.init();
      expect(await world.uses('container')).to.equal(1);
    },
    steps: ['graph.forget-uses'],
  },
};

/** Whether a step is one of graph drivers; other suites leave those to this one. */
export function isGraphStep(step: string): boolean {
  return step.startsWith('graph.');
}
