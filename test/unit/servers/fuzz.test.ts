import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { volumeOptions } from '../../../src/core/volumes/options.ts';
import { LinuxDisk } from '../../../src/host/linux/disk.ts';
import type { Logger } from '../../../src/lib/log.ts';
import { pluginApp } from '../../../src/servers/docker/volume-driver.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { isLong } from '../../support/long.ts';
import { type Served, serveApp } from '../../support/raw-client.ts';
import { type Daemon, Host } from '../../support/world.ts';

const silent = { error() {}, warn() {}, info() {}, debug() {} } as unknown as Logger;

const nasty = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('db', 'a', 'A_b.c-d', '0') },
  fc.constantFrom(
    '..',
    '.',
    '../../etc',
    '/etc/passwd',
    'a/../../b',
    '../sibling',
    '%2e%2e%2f',
    'new-1',
    'trash',
    'pool.json',
    '\0',
    'a\0/b',
  ),
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({ unit: fc.constantFrom('.', '/', 'a', '\\', '\0', '~', '$', '`'), maxLength: 12 }),
);
const optionName = fc.oneof(
  fc.constantFrom(...Object.keys(volumeOptions)),
  fc.constantFrom('__proto__', 'constructor'),
  nasty,
);
const optionValue = fc.oneof(
  fc.constantFrom('', '0', '1000', '0700', '7777', 'true', 'default', '10Gi', '-1', '1e400', '/'),
  nasty,
);
const call = fc.record({
  method: fc.constantFrom('Create', 'Create', 'Mount', 'Unmount', 'Remove', 'Get', 'Path', 'List'),
  Name: fc.oneof({ weight: 9, arbitrary: nasty }, fc.jsonValue()),
  ID: fc.oneof({ weight: 9, arbitrary: fc.constantFrom('id-1', 'id-2') }, nasty, fc.jsonValue()),
  Opts: fc.oneof(
    { weight: 9, arbitrary: fc.dictionary(optionName, optionValue, { maxKeys: 3 }) },
    fc.jsonValue(),
  ),
});

describe('names and options from a fuzzer, on the socket', () => {
  let scratch: Scratch;
  let daemon: Daemon;
  let served: Served;

  beforeEach(async () => {
    scratch = await Scratch.make();
    await scratch.directory('sibling');
    const root = await scratch.directory('varve');
    daemon = await new Host({ disk: new LinuxDisk(), root }).start({ waits: { lockMs: 500, copyMs: 200 } });
    served = await serveApp(
      pluginApp({
        ...daemon,
        ready: Promise.resolve(),
        peerPid: () => undefined,
        onPeer: () => {},
        onActivate: () => {},
        debug: false,
        managed: false,
        log: silent,
      }),
    );
  });

  afterEach(async () => {
    await daemon.copies.cancelAll();
    await served.close();
    await scratch.remove();
  });

  /** Everything in the parent of the root but what is allowed to be there. */
  async function strays(): Promise<readonly string[]> {
    const names = await readdir(scratch.path, { recursive: true });
    const ours =
      /^(sibling|varve(\/(mnt(\/default-\d+)?|pools(\/default(\/(pool\.json|trash|(trash\/|new-)?\d+(\/.*)?))?)?))?)$/;
    return names.filter(name => !ours.test(name));
  }

  it('never lead outside the root, never crash the daemon, and are answered within a second', async function () {
    this.timeout(isLong ? 600_000 : 60_000);
    let slowest = 0;
    let successes = 0;
    await fc.assert(
      fc.asyncProperty(call, async ({ method, ...body }) => {
        const began = performance.now();
        const answer = await served.post(`/VolumeDriver.${method}`, body);
        slowest = Math.max(slowest, performance.now() - began);
        if (answer?.status === 200) successes += 1;
        else expect(answer?.body).to.have.property('Err').that.is.a('string').and.is.not.equal('');
        expect(await strays()).to.deep.equal([]);
      }),
      { numRuns: isLong ? 10_000 : 300 },
    );
    console.log(`      slowest answer: ${slowest.toFixed(1)} ms`);
    expect(successes).to.be.greaterThan(20);
    expect(await readdir(join(scratch.path, 'sibling'))).to.deep.equal([]);
    expect((await served.post('/VolumeDriver.List', {}))?.status).to.equal(200);
  });
});
