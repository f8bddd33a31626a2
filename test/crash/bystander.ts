import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { mountPoints } from '../../scripts/lib/mounts.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { VolumeView } from '../../src/core/volumes/view.ts';
import type { TestDaemon } from '../support/daemon.ts';
import type { TestEngine } from '../support/engine.ts';
import { pause, pausing } from '../support/writer.ts';
import { admin } from './admin.ts';

export const bystanderName = 'bystander';

/** It ends at the first error; `sync FILE` is fsync(2). A new one goes on where the last one stopped. */
const script = `
set -e
${pausing}
i=$(tail -n 1 /data/sequence 2>/dev/null || true)
i=\${i:-0}
while :; do i=$((i+1)); echo $i >> /data/sequence; sync /data/sequence; ${pause(0.1)}; done`;

/** A container that writes numbers to its volume while everything around it crashes. */
export class Bystander {
  readonly #engine: TestEngine;
  readonly #daemon: TestDaemon;
  #seen = 0;

  private constructor(engine: TestEngine, daemon: TestDaemon) {
    this.#engine = engine;
    this.#daemon = daemon;
  }

  static async start(engine: TestEngine, daemon: TestDaemon): Promise<Bystander> {
    const bystander = new Bystander(engine, daemon);
    const volume = ['--volume', `${bystanderName}:/data`, '--volume-driver', daemon.driver];
    const options = ['--detach', '--network', 'host', '--stop-timeout', '0', '--name', daemon.driver];
    const { exitCode, stderr } = await engine.docker(
      'run',
      ...options,
      ...volume,
      'busybox',
      'sh',
      '-c',
      script,
    );
    expect(exitCode, stderr).to.equal(0);
    return bystander;
  }

  /** Starts its container again after the engine ended it. */
  async restart(): Promise<void> {
    const { exitCode, stderr } = await this.#engine.docker('start', this.#daemon.driver);
    expect(exitCode, stderr).to.equal(0);
  }

  /** Ends its container and waits until its volume is not mounted any more. */
  async stop(): Promise<void> {
    const { exitCode, stderr } = await this.#engine.docker('rm', '--force', this.#daemon.driver);
    expect(exitCode, stderr).to.equal(0);
  }

  /** Whether it still writes, every number is there, and its volume is mounted once and in the records. */
  async check(): Promise<void> {
    const view = await admin<VolumeView>(this.#daemon, 'GET', `/v1/volumes/${bystanderName}`);
    expect(view.mountPoint, 'mount point of the volume in use').to.equal(
      join(this.#daemon.root, 'mnt', `default-${view.number}`),
    );
    expect(view.consumers, 'consumers of the volume in use').to.have.length(1);
    expect(
      mountPoints().filter(point => point === view.mountPoint),
      'mounts',
    ).to.have.length(1);
    const path = join(view.mountPoint, 'sequence');
    const numbers = await until('the container in use to write on', 10_000, () => {
      const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1).map(Number);
      return lines.length > this.#seen + 1 && lines;
    });
    const hole = numbers.findIndex((number, index) => number !== index + 1);
    expect(hole, `the sequence breaks at line ${hole + 1}: ${numbers.slice(hole - 1, hole + 2)}`).to.equal(
      -1,
    );
    this.#seen = numbers.length;
  }
}
