import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { expect } from 'chai';
import { docker } from '../support/containers.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isLong } from '../support/long.ts';

/** A figure for a person: what is fast is decided by benchmarks, not here. */
function show(what: string, value: number, unit: string): void {
  console.info(`      ${what}: ${value.toFixed(unit === 'MB' ? 1 : 0)} ${unit}`);
}

describe('many volumes', function () {
  this.timeout(isLong ? 600_000 : 180_000);
  const count = 1_000;
  const names = Array.from({ length: count }, (_, at) => `volume-${String(at).padStart(4, '0')}`);
  let engine: TestEngine;
  let daemon: TestDaemon;

  before(async () => {
    daemon = await startDaemon();
    engine = await startEngine();
  });
  after(async () => {
    await engine?.stop();
    await daemon?.dispose();
  });

  /** Acts on all names, some at a time, as an engine with several clients does. */
  async function forAll(act: (name: string) => Promise<void>): Promise<void> {
    const waiting = names.values();
    const worker = async () => {
      for (const name of waiting) await act(name);
    };
    await Promise.all(Array.from({ length: 16 }, worker));
  }
  const listed = async () => {
    const words = ['volume', 'ls', '--quiet', '--filter', `driver=${daemon.driver}`];
    return (await docker(engine, ...words)).split('\n').sort();
  };
  function residentMegabytes(): number {
    const [, kilobytes] =
      /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')) ?? [];
    return Number(kilobytes) / 1024;
  }
  /** Lets the engine keep a record of a volume, as its users do when they make one. */
  function adopt(name: string): Promise<void> {
    const headers = { 'Content-Type': 'application/json' };
    const where = { socketPath: engine.socket, path: '/volumes/create', method: 'POST', headers };
    return new Promise((resolve, reject) => {
      const call = request(where, response => {
        response.resume();
        const { statusCode } = response;
        response.on('end', () =>
          statusCode === 201 ? resolve() : reject(new Error(`status ${statusCode}`)),
        );
      });
      call.on('error', reject);
      Readable.from([JSON.stringify({ Name: name, Driver: daemon.driver })]).pipe(call);
    });
  }

  it(`S13 ${count} volumes are made at the same time, each with a number of its own`, async () => {
    const began = performance.now();
    await forAll(async name => {
      const { status, body } = await daemon.plugin('VolumeDriver.Create', { Name: name, Opts: null });
      expect(status, JSON.stringify(body)).to.equal(200);
    });
    show(`${count} creates, 16 at a time`, performance.now() - began, 'ms');
    const views = JSON.parse((await daemon.varve('volume', 'ls', '--format', 'json')).stdout) as {
      name: string;
      number: number;
    }[];
    expect(views.map(({ name }) => name)).to.deep.equal(names);
    expect(new Set(views.map(({ number }) => number)).size).to.equal(count);
    show(`resident memory with ${count} volumes`, residentMegabytes(), 'MB');
  });

  it(`S13 docker volume ls lists all ${count}`, async () => {
    const began = performance.now();
    expect(await listed()).to.deep.equal(names);
    show(`docker volume ls of ${count} volumes`, performance.now() - began, 'ms');
  });

  it(`S13 dockerd restarts with ${count} volumes that it knows`, async () => {
    await forAll(adopt);
    show(`dockerd restart, varve running, ${count} volumes known`, await engine.restart(), 'ms');
    expect(await listed()).to.deep.equal(names);
  });

  it(`S13 the daemon restarts with ${count} volumes`, async () => {
    await daemon.stop();
    const began = performance.now();
    await daemon.start();
    show(`varve from start to its first answer, ${count} volumes`, performance.now() - began, 'ms');
    expect(await listed()).to.deep.equal(names);
    show(`resident memory after the restart`, residentMegabytes(), 'MB');
  });

  it(`S13 all ${count} are removed at the same time, and nothing of them is left`, async () => {
    const began = performance.now();
    await forAll(async name => {
      const { status, body } = await daemon.plugin('VolumeDriver.Remove', { Name: name });
      expect(status, JSON.stringify(body)).to.equal(200);
    });
    show(`${count} removes, 16 at a time`, performance.now() - began, 'ms');
    expect((await daemon.varve('volume', 'ls', '-q')).stdout).to.equal('');
    expect((await daemon.varve('state', 'check')).exitCode).to.equal(0);
  });

  for (const known of isLong ? [1, 3, 10] : [1]) {
    it(`S12 dockerd starts with ${known} volumes that it knows while varve is absent, and finds them later`, async () => {
      const other = await startEngine();
      try {
        const mine = Array.from({ length: known }, (_, at) => `absent-${known}-${at}`);
        for (const name of mine) {
          await docker(other, 'volume', 'create', '-d', daemon.driver, '--label', `of=${name}`, name);
        }
        await daemon.stop();
        show(
          `dockerd restart, varve absent, ${known} volumes known`,
          await other.restart(known * 20_000),
          'ms',
        );
        await daemon.start();
        for (const name of mine) {
          expect(
            await docker(other, 'volume', 'inspect', '--format', '{{.Driver}} {{json .Labels}}', name),
          ).to.equal(`${daemon.driver} {"of":"${name}"}`);
        }
        await docker(other, 'volume', 'rm', ...mine);
      } finally {
        await other.stop();
      }
    });
  }
});
