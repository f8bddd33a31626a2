import { readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { parseMountinfo, readMountinfo } from '../../../src/host/linux/mountinfo.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { GraphClient } from '../../support/graph-client.ts';
import { rejection } from '../../support/rejection.ts';
import { admin } from '../admin.ts';

/** A daemon that is a storage driver, and the engine that it dies for. */
export class GraphCrashWorld {
  readonly daemon: TestDaemon;
  readonly driver: GraphClient;

  private constructor(daemon: TestDaemon) {
    this.daemon = daemon;
    this.driver = new GraphClient(daemon.socket);
  }

  static async open(): Promise<GraphCrashWorld> {
    const world = new GraphCrashWorld(await startDaemon({ layers: true }));
    await world.driver.init();
    return world;
  }

  /** Makes the writable layer `container` on `image`, which is committed by that; none stays mounted. */
  async fill(): Promise<void> {
    for (const [id, parent] of [
      ['image', ''],
      ['container', 'image'],
    ] as const) {
      await this.driver.createReadWrite(id, parent);
      await this.driver.within(id, path => writeFileSync(join(path, id), id));
    }
  }

  /** The ids of the layers that are mounted. */
  mounted(): readonly string[] {
    const points = parseMountinfo(readMountinfo('self')).map(({ mountPoint }) => mountPoint);
    const ids = points
      .filter(point => point.startsWith(`${this.#mountPoints}/`))
      .map(point => basename(point));
    return [...new Set(ids)].sort();
  }

  /** What the layer store has. */
  async names(): Promise<readonly string[]> {
    const layers = await admin<{ name: string }[]>(this.daemon, 'GET', '/v1/layers?store=docker');
    return layers.map(({ name }) => name).sort();
  }

  /** Does something in which the daemon dies, and starts it again. */
  async dieAt(point: string, act: (driver: GraphClient) => Promise<unknown>): Promise<void> {
    this.daemon.faults({ [point]: 'kill' });
    await rejection(act(this.driver));
    expect((await this.daemon.ended()).signal).to.equal('SIGKILL');
    this.daemon.faults({});
    await this.daemon.start();
  }

  /** What is mounted is a layer that there is, and each mount point is one of a mount. */
  async expectRealMounts(): Promise<void> {
    for (const id of this.mounted()) expect(await this.driver.exists(id), `a layer ${id}`).to.equal(true);
    await until('mount points without a mount to go', 10_000, () => {
      return readdirSync(this.#mountPoints).sort().join() === this.mounted().join();
    });
  }

  /** Ends all uses of a layer. @returns how many there were */
  async uses(id: string): Promise<number> {
    let uses = 0;
    for (; this.mounted().includes(id); uses += 1) await this.driver.put(id);
    return uses;
  }

  /** Removes the layers, which takes everything along. */
  async clear(): Promise<void> {
    for (const id of ['above', 'container', 'image']) await this.driver.remove(id);
    expect(this.mounted()).to.deep.equal([]);
    expect(readdirSync(this.#mountPoints)).to.deep.equal([]);
    expect(await this.names()).to.deep.equal([]);
  }

  get #mountPoints(): string {
    return join(this.daemon.root, 'graph', this.daemon.driver);
  }
}
