import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../scripts/lib/process.ts';
import { startDaemon, type TestDaemon } from './daemon.ts';
import { selectedBin, startEngine, type TestEngine } from './engine.ts';
import { Scratch } from './host-scratch.ts';
import { skip } from './skip.ts';

/** The last engine that takes a plugin for a storage driver; 27 asks for an environment variable besides. */
const lastMajor = 26;

export interface GraphParts {
  readonly daemon: TestDaemon;
  /** Its storage driver is the daemon. */
  readonly engine: TestEngine;
  readonly scratch: Scratch;
}

/** Registers tests with an engine that keeps its layers in varve, where engines can do that by a plugin. */
export function withLayersInVarve(
  title: string,
  args: readonly string[],
  register: (parts: () => GraphParts) => void,
): void {
  describe(title, function () {
    this.timeout(120_000);
    let parts: GraphParts | undefined;

    before(async function () {
      const major = await engineMajor();
      if (major > lastMajor) {
        const lane = `engine of ${process.env['VARVE_ENGINE_SUITE']}`;
        skip(this, `${lane}: Docker ${major} takes no plugin for a storage driver`);
      }
      parts = await start(args);
    });

    after(async () => {
      if (parts === undefined) return;
      const { daemon, engine, scratch } = parts;
      await engine.stop();
      const left = mountedLayers(daemon);
      await daemon.dispose();
      await scratch.remove();
      expect(left).to.deep.equal([]);
    });

    register(() => {
      if (parts === undefined) throw new Error('it has not started');
      return parts;
    });
  });
}

async function start(args: readonly string[]): Promise<GraphParts> {
  const daemon = await startDaemon({ layers: true });
  try {
    const options = ['--experimental', '--storage-driver', daemon.driver, ...args];
    return { daemon, engine: await startEngine({ args: options }), scratch: await Scratch.make() };
  } catch (error) {
    await daemon.dispose();
    throw error;
  }
}

/** The first number of the version of the engine that is tested. */
async function engineMajor(): Promise<number> {
  const bin = selectedBin();
  const { stdout } = await must(bin === undefined ? '/usr/sbin/dockerd' : join(bin, 'dockerd'), [
    '--version',
  ]);
  return Number(/version (\d+)\./.exec(stdout)?.[1]);
}

/** The mount points that there are: one for each layer that is mounted. */
export function mountedLayers({ root, driver }: TestDaemon): readonly string[] {
  return readdirSync(join(root, 'graph', driver));
}

interface LayerRow {
  readonly name: string;
  readonly kind: string;
}

/** All layers of the engine. */
export async function layersOf(daemon: TestDaemon): Promise<readonly LayerRow[]> {
  const { stdout } = await daemon.varve('layer', 'ls', '--store', 'docker', '--format', 'json');
  return JSON.parse(stdout) as LayerRow[];
}
