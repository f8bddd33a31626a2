import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import type { Answer, TestDaemon } from '../support/daemon.ts';
import { admin } from './admin.ts';

/** A volume that a test uses over the plugin socket, as an engine does. */
export class TestVolume {
  readonly name: string;
  readonly daemon: TestDaemon;
  readonly mountId = randomBytes(32).toString('hex');
  #digest: string | undefined;

  constructor(daemon: TestDaemon, name: string) {
    this.daemon = daemon;
    this.name = name;
  }

  create(options: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.daemon.plugin('VolumeDriver.Create', { Name: this.name, Opts: options });
  }

  mount(): Promise<Answer> {
    return this.daemon.plugin('VolumeDriver.Mount', { Name: this.name, ID: this.mountId });
  }

  unmount(): Promise<Answer> {
    return this.daemon.plugin('VolumeDriver.Unmount', { Name: this.name, ID: this.mountId });
  }

  remove(): Promise<Answer> {
    return this.daemon.plugin('VolumeDriver.Remove', { Name: this.name });
  }

  view(): Promise<VolumeView> {
    return admin(this.daemon, 'GET', `/v1/volumes/${this.name}`);
  }

  /** Its directory in the pool. */
  async place(): Promise<string> {
    return join(this.daemon.root, 'pools/default', String((await this.view()).number));
  }

  /** Makes it, with data in it that {@link expectData} looks for. */
  async makeWithData(): Promise<void> {
    expectSuccess(await this.create());
    const data = randomBytes(64 * 1024);
    writeFileSync(join(await this.place(), 'data/blob'), data, { flush: true });
    this.#digest = digestOf(data);
  }

  /** Says what its data should be. */
  isCopyOf(directory: string): void {
    this.#digest = digestOf(readFileSync(join(directory, 'blob')));
  }

  /** Whether the data is what it was, in the pool or where the volume is mounted. */
  async expectData(directory?: string): Promise<void> {
    const file = join(directory ?? join(await this.place(), 'data'), 'blob');
    expect(digestOf(readFileSync(file)), `digest of ${file}`).to.equal(this.#digest);
  }

  /** Whether nothing can be written where the volume will be mounted. */
  async expectSealedMountPoint(): Promise<void> {
    const { pool, number } = await this.view();
    const path = join(this.daemon.root, 'mnt', `${pool}-${number}`, 'stray');
    expect(() => writeFileSync(path, ''), `writing to ${path}`).to.throw('EPERM');
  }

  /** Waits until the volume is as `isRight` says. */
  async becomes(what: string, isRight: (view: VolumeView) => boolean): Promise<VolumeView> {
    let last: VolumeView | undefined;
    try {
      return await until(`volume ${this.name} to be ${what}`, 10_000, async () => {
        last = await this.view();
        return isRight(last) && last;
      });
    } catch (error) {
      throw new Error(`volume ${this.name} is not ${what}: ${JSON.stringify(last)}`, { cause: error });
    }
  }
}

/**
 * Unmounts, and waits until the volume has no consumer and no mount. A mount that was counted and never answered
 * needs an unmount of its own: without one it is let go minutes later.
 */
export async function letGo(volume: TestVolume): Promise<void> {
  const [consumer] = (await volume.view()).consumers;
  for (let count = consumer?.count ?? 1; count > 0; count -= 1) expectSuccess(await volume.unmount());
  await volume.becomes(
    'unmounted',
    ({ mountPoint, consumers }) => mountPoint === '' && consumers.length === 0,
  );
  await volume.expectData();
}

export function expectSuccess(answer: Answer): void {
  expect(answer.status, JSON.stringify(answer.body)).to.equal(200);
}

/** Whether the volume is gone: removed now, or before. */
export function expectRemoved({ status, body }: Answer): void {
  if (status !== 200) expect((body as { Err: string }).Err).to.match(/no such volume/);
}

function digestOf(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
