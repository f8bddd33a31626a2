import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { until } from '../../../scripts/lib/wait.ts';
import { type Answer, startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { isLong } from '../../support/long.ts';
import { rejection } from '../../support/rejection.ts';
import { snapshotTree } from '../../support/tree-snapshot.ts';

const numRuns = isLong ? 10_000 : 300;
/** Longest time for an answer, in milliseconds; on a busy machine it only finds what hangs. */
const limitMs = isLong ? 1_000 : 10_000;

describe(`${numRuns} names and options from a fuzzer on the plugin socket`, function () {
  this.timeout(isLong ? 3_600_000 : 120_000);
  let daemon: TestDaemon;
  let scratch: Scratch;
  let slowestMs = 0;

  before(async () => {
    scratch = await Scratch.make();
    mkdirSync(join(scratch.path, 'source/deep'), { recursive: true });
    writeFileSync(join(scratch.path, 'source/deep/file'), 'a file of the host\n');
    daemon = await startDaemon();
  });
  after(async () => {
    console.info(`      slowest answer: ${slowestMs.toFixed(1)} ms`);
    await daemon?.dispose();
    await scratch?.remove();
  });

  async function ask(method: string, body: unknown): Promise<Answer> {
    const began = performance.now();
    const answer = await daemon.plugin(method, body);
    const ms = performance.now() - began;
    slowestMs = Math.max(slowestMs, ms);
    expect(ms, `${method} took long`).to.be.lessThan(limitMs);
    expect(answer.status).to.be.oneOf([200, 500]);
    const { Err } = answer.body as { Err?: unknown };
    if (answer.status === 500) expect(Err).to.be.a('string').that.is.not.empty;
    else expect(Err ?? '').to.equal('');
    return answer;
  }

  const text = fc.string({ unit: 'binary', maxLength: 300 });
  const plain = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,30}$/);
  const path = fc
    .array(fc.constantFrom('..', '.', '', 'etc', 'pools', 'default', '1', 'data', 'a'), { maxLength: 6 })
    .map(parts => parts.join('/'));
  const odd = fc.oneof(
    fc.constantFrom(
      '..',
      '.',
      '-',
      '_a',
      'a/b',
      'x y',
      'ünï',
      'a\0b',
      'a\nb',
      '__proto__',
      'constructor',
      'pool.json',
    ),
    fc.integer({ min: 250, max: 400 }).map(length => 'n'.repeat(length)),
    fc.constantFrom('trash', 'new-1', 'volumes', 'toString', '%2e%2e', '$(touch x)', '`id`', '-rf'),
  );
  const name = fc.oneof({ weight: 3, arbitrary: plain }, text, path, odd, fc.jsonValue());

  const values: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
    uid: fc.oneof(fc.nat().map(String), fc.constantFrom('-1', '4294967295', '1e3', '0x10', 'root'), text),
    gid: fc.oneof(fc.nat().map(String), fc.constantFrom('', '99999999999999999999', ' 1'), text),
    mode: fc.oneof(
      fc.nat(0o7777).map(mode => `0${mode.toString(8)}`),
      fc.constantFrom('8', '77777', 'u+x'),
      text,
    ),
    pool: fc.oneof(fc.constantFrom('default', 'Default', '../default', ''), path, text),
    size: fc.constantFrom('1Gi', '-1', '1e99', 'lots', '0', ''),
    protect: fc.constantFrom('false', '0', 'no', ''),
    help: fc.constantFrom('', 'me'),
    'from-path': fc.constantFrom(
      '/',
      '//',
      '/.',
      '/./',
      '..',
      'etc',
      '/missing',
      '/missing/../etc',
      '\0',
      'SOURCE',
      'PARENT',
    ),
  };
  const known = fc.record(values, { requiredKeys: [] });
  const opts = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(null, {}) },
    { weight: 3, arbitrary: known },
    fc.dictionary(text, fc.oneof(text, fc.jsonValue()), { maxKeys: 3 }),
    fc.jsonValue(),
  );
  const body = fc.oneof(
    { weight: 9, arbitrary: fc.record({ Name: name, Opts: opts }) },
    fc.record({ Name: name, Opts: opts, ID: fc.jsonValue() }, { requiredKeys: [] }),
    fc.jsonValue(),
    text,
  );

  /** Options that name a place of this test. */
  function place(given: unknown): unknown {
    const options = (given as { Opts?: Record<string, unknown> } | null)?.Opts;
    if (typeof options !== 'object' || options === null) return given;
    const source = { SOURCE: join(scratch.path, 'source'), PARENT: daemon.directory }[
      String(options['from-path'])
    ];
    return source === undefined ? given : { ...(given as object), Opts: { ...options, 'from-path': source } };
  }
  const nameOf = (given: unknown) => (given as { Name: string }).Name;
  const listed = async () =>
    ((await ask('VolumeDriver.List', {})).body as { Volumes: { Name: string }[] }).Volumes.map(
      ({ Name }) => Name,
    );

  it('S13 every volume that is accepted is listed and can be removed, and nothing else ever changes', async () => {
    const before = [
      snapshotTree(scratch.path),
      snapshotTree(daemon.directory, ['root', 'run', 'log', 'faults', 'faults.hits']),
    ];
    const pid = daemon.pid;
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(body, async given => {
        const sent = place(given);
        const { status } = await ask('VolumeDriver.Create', sent);
        if (status === 500) return;
        accepted += 1;
        expect(await listed()).to.deep.equal([nameOf(sent)]);
        expect((await ask('VolumeDriver.Get', { Name: nameOf(sent) })).status).to.equal(200);
        expect((await ask('VolumeDriver.Remove', { Name: nameOf(sent) })).status).to.equal(200);
        expect(await listed()).to.deep.equal([]);
      }),
      { numRuns },
    );
    expect(accepted).to.be.greaterThan(numRuns / 20);
    expect(accepted).to.be.lessThan(numRuns);
    expect(daemon.pid).to.equal(pid);
    expect((await daemon.varve('status', '--format', 'json')).stdout).to.include(`"pid": ${pid}`);
    expect([
      snapshotTree(scratch.path),
      snapshotTree(daemon.directory, ['root', 'run', 'log', 'faults', 'faults.hits']),
    ]).to.deep.equal(before);
    const left = () => [
      ...readdirSync(join(daemon.root, 'mnt')),
      ...readdirSync(join(daemon.root, 'pools/default')).filter(entry => !/^(pool\.json|trash)$/.test(entry)),
    ];
    await until('what was removed to go', 10_000, () => left().length === 0);
    expect((await daemon.varve('state', 'check')).exitCode).to.equal(0);
  });

  it('S13 no call with names and ids from a fuzzer changes a volume, or ends the daemon', async () => {
    const pid = daemon.pid;
    expect((await ask('VolumeDriver.Create', { Name: 'kept', Opts: { mode: '0711' } })).status).to.equal(200);
    const view = async () =>
      (await daemon.varve('volume', 'inspect', 'kept')).stdout.replaceAll(/"usage": [^}]*/g, '');
    const before = await view();
    const methods = [
      'Get',
      'Path',
      'Remove',
      'Mount',
      'Unmount',
      'List',
      'Capabilities',
      'Nonsense',
      '../Get',
      '%2e%2e',
    ];
    const method = fc.constantFrom(
      ...methods.map(method => `VolumeDriver.${method}`),
      'Plugin.Activate',
      '',
      '?',
    );
    const notKept = body.filter(given => (given as { Name?: unknown } | null)?.Name !== 'kept');
    await fc.assert(
      fc.asyncProperty(method, notKept, async (called, given) => {
        const isEmpty = typeof given === 'string' && given.trim() === '';
        // An answer to a Get that asks for nothing would cost a volume its labels.
        if (called === 'VolumeDriver.Get' && isEmpty) await rejection(daemon.plugin(called, given));
        else await ask(called, given);
      }),
      { numRuns },
    );
    expect(await listed()).to.deep.equal(['kept']);
    expect(await view()).to.equal(before);
    expect(daemon.pid).to.equal(pid);
    expect((await ask('VolumeDriver.Remove', { Name: 'kept' })).status).to.equal(200);
  });
});
