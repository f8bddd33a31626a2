import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { mountPoints } from '../../../scripts/lib/mounts.ts';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import type { StoreSpace } from '../../../src/core/layers/view.ts';
import {
  Kind,
  type ListSnapshotsResponse,
  Snapshots,
} from '../../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Mount } from '../../../src/wire/gen/containerd/types/mount_pb.ts';
import { admin } from '../../crash/admin.ts';
import { expectNoRoom, fill } from '../../suites/layer-limits.ts';
import { TestGrpcClient } from '../../support/grpc-client.ts';
import { SnapshotsHost } from '../../support/snapshots-world.ts';

const { prepare, view, mounts, commit, remove, stat, update, list, usage, cleanup } = Snapshots.method;

/** gRPC status codes. */
const [invalidArgument, notFound, alreadyExists, failedPrecondition, unimplemented] = [3, 5, 6, 9, 12];

/** A container's limit in the configuration of the daemon under test. */
const limit = 16 << 20;

describe('the socket of a snapshotter', function () {
  this.timeout(60_000);
  let host: SnapshotsHost;
  let client: TestGrpcClient;
  const of = { snapshotter: 'varve' };

  before(async () => {
    host = await SnapshotsHost.make({ limit: '16Mi' });
  });
  after(() => host?.remove());

  beforeEach(() => {
    client = new TestGrpcClient(host.socket);
  });
  afterEach(async () => {
    host.daemon.faults({});
    client.close();
    await host.clear();
  });

  /** Unpack keys have no limit. */
  const extract = (name: string) => `default/1/extract-1-x ${name}`;
  const make = async (name: string, parent = '') => {
    const key = extract(name);
    await client.ask(prepare, { ...of, key, parent });
    await client.ask(commit, { ...of, key, name });
  };
  const infos = async (filters: string[] = []) => {
    const blocks: ListSnapshotsResponse[] = [];
    for await (const block of client.stream(list, { ...of, filters })) blocks.push(block);
    return blocks.map(block => block.info);
  };
  const names = async () => (await infos()).flat().map(({ name }) => name);
  /** Mounts as mount(8) does what containerd is told. */
  const mounted = async <T>(given: readonly Mount[], act: (path: string) => T): Promise<T> => {
    const target = await host.directory('mounted');
    for (const { type, source, options } of given) {
      // mount(8) does not know an option of its own by this name.
      const words = options.map(option => (option === 'rbind' ? 'bind' : option));
      await must('mount', ['-t', type === 'bind' ? 'none' : type, '-o', words.join(','), source, target]);
    }
    try {
      return act(target);
    } finally {
      await must('umount', [target]);
    }
  };

  it('tells the status codes that containerd acts on', async () => {
    await make('base');
    await client.ask(prepare, { ...of, key: 'key', parent: 'base' });
    await client.ask(view, { ...of, key: 'look', parent: 'base' });
    const info = (name: string) => ({ name, parent: 'other', labels: {} });
    const cases = [
      [client.failure(prepare, { ...of, key: 'key' }), alreadyExists],
      [client.failure(view, { ...of, key: 'base' }), alreadyExists],
      [client.failure(commit, { ...of, key: 'key', name: 'base' }), alreadyExists],
      [client.failure(prepare, { ...of, key: 'new', parent: 'none' }), notFound],
      [client.failure(stat, { ...of, key: 'none' }), notFound],
      [client.failure(mounts, { ...of, key: 'none' }), notFound],
      [client.failure(remove, { ...of, key: 'none' }), notFound],
      [client.failure(usage, { ...of, key: 'none' }), notFound],
      [client.failure(update, { ...of, info: info('none') }), notFound],
      [client.failure(prepare, { ...of, key: 'new', parent: 'key' }), invalidArgument],
      [client.failure(view, { ...of, key: 'new', parent: 'look' }), invalidArgument],
      [client.failure(prepare, { ...of, key: '' }), invalidArgument],
      [client.failure(update, of), invalidArgument],
      [
        client.failure(update, { ...of, info: info('key'), updateMask: { paths: ['parent'] } }),
        invalidArgument,
      ],
      [client.failure(remove, { ...of, key: 'base' }), failedPrecondition],
      [client.failure(mounts, { ...of, key: 'base' }), failedPrecondition],
      [client.failure(commit, { ...of, key: 'look', name: 'new' }), failedPrecondition],
      [client.failure(commit, { ...of, key: 'base', name: 'new' }), failedPrecondition],
    ] as const;
    for (const [index, [failure, code]] of cases.entries()) {
      expect((await failure).code, `case ${index}`).to.equal(code);
    }
    expect(await names()).to.deep.equal(['base', 'key', 'look']);
  });

  it('refuses what it cannot honour, and does nothing then', async () => {
    await make('base');
    const labels = (name: string, value = '') => ({ [`containerd.io/snapshot/${name}`]: value });
    const refused = [
      [client.failure(prepare, { snapshotter: 'overlayfs', key: 'new' }), invalidArgument, 'overlayfs'],
      [client.failure(cleanup, {}), invalidArgument, 'proxy_plugins'],
      [
        client.failure(prepare, { ...of, key: 'new', labels: labels('uidmapping', '0:1000:10') }),
        unimplemented,
        'uidmapping',
      ],
      [
        client.failure(view, { ...of, key: 'new', labels: labels('gidmapping', '0:1000:10') }),
        unimplemented,
        'gidmapping',
      ],
      ...['', '0', '-1', '1.5', '10Gi', '99999999999999999999'].map(
        size =>
          [
            client.failure(prepare, { ...of, key: 'new', labels: labels('max-size', size) }),
            invalidArgument,
            'max-size',
          ] as const,
      ),
    ] as const;
    for (const [failure, code, text] of refused) {
      const { code: found, details } = await failure;
      expect(details).to.include(text);
      expect(found, details).to.equal(code);
    }
    expect(await names()).to.deep.equal(['base']);
  });

  it('keeps a layer on the parent that it was prepared on: no rebase', async () => {
    await make('base');
    const [one, two] = ['default/1/one', 'default/2/two'];
    await client.ask(prepare, { ...of, key: one });
    await client.ask(prepare, { ...of, key: two, parent: 'base' });
    const { code, details } = await client.failure(commit, { ...of, key: one, name: 'top', parent: 'base' });
    expect(code, details).to.equal(unimplemented);
    expect(await names()).to.deep.equal(['base', one, two]);
    await client.ask(commit, { ...of, key: two, name: 'top', parent: 'base' });
    expect((await client.ask(stat, { ...of, key: 'top' })).info).to.include({ parent: 'base' });
  });

  it('S1 gives out plain mounts of the kernel, a view of which nobody can write to', async () => {
    const nothing = await client.ask(prepare, { ...of, key: extract('base') });
    expect(nothing.mounts).to.have.length(1);
    expect(nothing.mounts[0]).to.deep.include({ type: 'bind', target: '', options: ['rbind', 'rw'] });
    await mounted(nothing.mounts, path => writeFileSync(join(path, 'base'), 'x'));
    await client.ask(commit, { ...of, key: extract('base'), name: 'base' });
    const { mounts: one } = await client.ask(view, { ...of, key: 'one', parent: 'base' });
    expect(one[0]).to.deep.include({ type: 'bind', options: ['rbind', 'ro'] });

    const { mounts: active } = await client.ask(prepare, { ...of, key: extract('top'), parent: 'base' });
    expect(active.map(({ type, source }) => [type, source])).to.deep.equal([['overlay', 'overlay']]);
    expect(active[0]?.options).to.include('index=off');
    await mounted(active, path => {
      expect(readFileSync(join(path, 'base'), 'utf8')).to.equal('x');
      writeFileSync(join(path, 'top'), 'x');
    });
    expect((await client.ask(mounts, { ...of, key: extract('top') })).mounts).to.deep.equal(active);
    await client.ask(commit, { ...of, key: extract('top'), name: 'top' });
    const { mounts: two } = await client.ask(view, { ...of, key: 'two', parent: 'top' });
    const { mounts: none } = await client.ask(view, { ...of, key: 'none' });
    for (const [given, files] of [
      [one, ['base']],
      [two, ['base', 'top']],
      [none, []],
    ] as const) {
      await mounted(given, path => {
        expect(readdirSync(path)).to.deep.equal(files);
        expect(() => writeFileSync(join(path, 'new'), 'x')).to.throw(/EROFS/);
      });
    }
  });

  it('lists in blocks of a hundred, and what a filter wants', async () => {
    const keys = Array.from({ length: 201 }, (_, index) => `default/${index}/extract-${index}`);
    await Promise.all(keys.map(key => client.ask(prepare, { ...of, key })));
    expect((await infos()).map(block => block.length)).to.deep.equal([100, 100, 1]);
    expect((await infos()).flat().map(({ name }) => name)).to.have.members(keys);
    expect(await infos(['name==none'])).to.deep.equal([]);
    expect((await infos([`name=="${keys[7]}"`, 'kind==view'])).flat()).to.have.length(1);
  });

  it('tells of a layer all that containerd asks', async () => {
    const before = Date.now();
    await make('base');
    const labels = { 'containerd.io/snapshot.ref': 'x' };
    await client.ask(prepare, { ...of, key: 'moby/57/extract-123 sha256:a', parent: 'base', labels });
    const { info } = await client.ask(stat, { ...of, key: 'moby/57/extract-123 sha256:a' });
    expect(info).to.deep.include({ kind: Kind.ACTIVE, parent: 'base', labels });
    expect(info?.createdAt).to.deep.equal(info?.updatedAt);
    expect(Number(info?.createdAt?.seconds)).to.be.within(Math.floor(before / 1000), Date.now() / 1000);
    const { size, inodes } = await client.ask(usage, { ...of, key: 'base' });
    expect([Number(size) > 0, inodes]).to.deep.equal([true, 1n]);
  });

  it('64 clients at a time prepare, write, commit and remove', async () => {
    await make('base');
    const clients = Array.from({ length: 64 }, (_, index) => ({
      wire: new TestGrpcClient(host.socket),
      key: `default/${index}/extract-${index}-x sha256:${index}`,
      name: `default/${index}/sha256:${index}`,
    }));
    const all = (act: (each: (typeof clients)[number]) => Promise<unknown>) => Promise.all(clients.map(act));
    try {
      await all(({ wire, key }) => wire.ask(prepare, { ...of, key, parent: 'base' }));
      expect(await names()).to.have.length(65);
      await all(({ wire, key, name }) => wire.ask(commit, { ...of, key, name }));
      expect((await infos(['kind==committed'])).flat()).to.have.length(65);
      await all(({ wire, name }) => wire.ask(remove, { ...of, key: name }));
      await all(({ wire }) => wire.ask(cleanup, of));
    } finally {
      for (const { wire } of clients) wire.close();
    }
    expect(await names()).to.deep.equal(['base']);
    await host.expectNoStrays();
    const rss = Number(
      /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${host.daemon.pid}/status`, 'utf8'))?.[1],
    );
    expect(rss, 'kB at most in memory').to.be.lessThan(400 * 1024);
  });

  it('S4 keeps a container to the limit of the configuration, or to that of its label, and unpacks without', async () => {
    await make('base');
    const id = '0123456789abcdef'.repeat(4);
    const given = {
      [`moby/57/${id}`]: limit,
      'moby/58/extract-123 sha256:abc': null,
      [`moby/59/${id}-init-key`]: null,
      'moby/60/0123abc-sha256:abc': null,
      'buildkit/61/k3v0w5q8zr2mhj1ts9xb4': null,
    };
    for (const [key, bytes] of Object.entries(given)) {
      await client.ask(prepare, { ...of, key, parent: 'base' });
      const layer = await admin<{ limit: object | null }>(
        host.daemon,
        'GET',
        `/v1/layers/${encodeURIComponent(key)}?store=containerd`,
      );
      expect(layer.limit, key).to.deep.equal(bytes === null ? null : { bytes });
    }
    const { mounts: container } = await client.ask(mounts, { ...of, key: `moby/57/${id}` });
    await mounted(container, path => {
      expectNoRoom(() => fill(join(path, 'big'), 2 * limit));
      expect(statSync(join(path, 'big')).size).to.be.greaterThan(limit / 2);
    });
    const labels = { 'containerd.io/snapshot/max-size': `${40 << 20}` };
    const { mounts: larger } = await client.ask(prepare, { ...of, key: 'moby/61/0123abc', labels });
    await mounted(larger, path => {
      expect(fill(join(path, 'big'), 24 << 20)).to.equal(24 << 20);
      expectNoRoom(() => fill(join(path, 'more'), 24 << 20));
    });
  });

  it('a call that hangs keeps no other waiting, and is answered when it can be', async () => {
    await make('base');
    await client.ask(prepare, { ...of, key: extract('other'), parent: 'base' });
    host.hold('layer.draft:before');
    const hung = client.ask(prepare, { ...of, key: extract('hung'), parent: 'base' });
    await until('it to hang', 5_000, () => host.daemon.hits().has('layer.draft:before'));
    const given = await client.failure(prepare, { ...of, key: extract('late') }, { deadlineMs: 200 });
    expect(given.code, 'the deadline of the client').to.equal(4);
    expect(await names()).to.deep.equal(['base', extract('other')]);
    await client.ask(commit, { ...of, key: extract('other'), name: 'other' });
    await client.ask(remove, { ...of, key: 'other' });
    expect((await client.failure(remove, { ...of, key: 'base' })).code).to.equal(failedPrecondition);
    host.daemon.faults({});
    expect((await hung).mounts).to.have.length(1);
    expect(await names()).to.include(extract('hung'));
  });

  it('cleans up in the background: garbage collection waits for no disk', async () => {
    await make('base');
    await client.ask(remove, { ...of, key: 'base' });
    host.hold('layer.delete:before');
    for (let round = 0; round < 3; round += 1) await client.ask(cleanup, of, { deadlineMs: 1_000 });
    await make('next');
    await client.ask(remove, { ...of, key: 'next' }, { deadlineMs: 5_000 });
    await client.ask(cleanup, of, { deadlineMs: 1_000 });
    const [space] = await admin<StoreSpace[]>(host.daemon, 'GET', '/v1/layers-usage?store=containerd');
    expect(space?.strays.length).to.be.greaterThan(0);
    host.daemon.faults({});
    await client.ask(cleanup, of);
    await host.expectNoStrays();
  });

  it('a layer that cannot be removed now ends no garbage collection: its code is the one after which that goes on', async () => {
    await make('stuck');
    await make('next');
    host.daemon.faults({ 'layer.record:before': 'error' });
    const failure = await client.failure(remove, { ...of, key: 'stuck' });
    expect(failure.code, failure.details).to.equal(failedPrecondition);
    expect(failure.details).to.match(/^cannot remove "stuck" now: .*tries again$/);
    host.hold('layer.record:before');
    const hung = await client.failure(remove, { ...of, key: 'stuck' }, { deadlineMs: 8_000 });
    expect(hung.code, hung.details).to.equal(failedPrecondition);
    expect(await names(), 'nothing was lost').to.deep.equal(['stuck', 'next']);
    host.daemon.faults({});
    await until('the removal that came too late', 5_000, async () => (await names()).length === 1);
    await client.ask(remove, { ...of, key: 'stuck' });
    expect((await client.failure(remove, { ...of, key: 'stuck' })).code).to.equal(notFound);
    await client.ask(remove, { ...of, key: 'next' });
  });

  it('a layer is removed once nobody knows it, and its files when they can be', async () => {
    await make('base');
    host.daemon.faults({ 'layer.discard:before': 'error' });
    await client.ask(remove, { ...of, key: 'base' });
    expect(await names()).to.deep.equal([]);
    expect(host.daemon.log()).to.include('removed layers stay: ');
    host.daemon.faults({});
    await client.ask(cleanup, of);
    await host.expectNoStrays();
  });

  it('is shown by status, doctor and `varve layer`', async () => {
    await make('base');
    const { stdout: status } = await host.daemon.varve('status');
    expect(status).to.match(/^varve +containerd +unix:\/\/\S+\/run\/containerd\.sock$/m);
    const { stdout: doctor } = await host.daemon.varve('doctor');
    expect(doctor).to.match(/^ok +snapshotter varve +containerd reaches it on \S+\/run\/containerd\.sock$/m);
    const { stdout: layers } = await host.daemon.varve('layer', 'ls', '--store', 'containerd');
    expect(layers).to.match(/^base +containerd +committed/m);
    expect((statSync(host.socket).mode & 0o777).toString(8)).to.equal('600');
  });

  it('S3 keeps everything through a restart, which answers what is under way first', async () => {
    await make('base');
    const { mounts: before } = await client.ask(prepare, { ...of, key: 'moby/1/a b', parent: 'base' });
    await client.ask(prepare, { ...of, key: extract('slow'), parent: 'base' });
    host.hold('layer.seal:before');
    const slow = client.ask(commit, { ...of, key: extract('slow'), name: 'slow' });
    await until('the commit', 5_000, () => host.daemon.hits().has('layer.seal:before'));
    const stopped = host.daemon.stop();
    host.daemon.faults({});
    await slow;
    await stopped;
    await host.daemon.start();
    expect(await names()).to.deep.equal(['base', 'moby/1/a b', 'slow']);
    expect((await client.ask(mounts, { ...of, key: 'moby/1/a b' })).mounts).to.deep.equal(before);
  });

  for (const [point, after] of Object.entries({
    'layer.sync:before': extract('new'),
    'layer.record:before': extract('new'),
    'layer.record:after': 'new',
  })) {
    it(`S3 a kill at ${point} of a commit leaves all of it or nothing`, async () => {
      await make('base');
      const key = extract('new');
      const { mounts: given } = await client.ask(prepare, { ...of, key, parent: 'base' });
      await mounted(given, path => writeFileSync(join(path, 'file'), 'content'));
      host.daemon.faults({ [point]: 'kill' });
      const lost = await client.failure(commit, { ...of, key, name: 'new' });
      expect(lost.code).to.equal(14);
      await host.daemon.ended();
      host.daemon.faults({});
      await host.daemon.start();
      expect(await names()).to.deep.equal(['base', after]);
      if (after === key) await client.ask(commit, { ...of, key, name: 'new' });
      const { mounts: shown } = await client.ask(view, { ...of, key: 'look', parent: 'new' });
      await mounted(shown, path => {
        expect(readFileSync(join(path, 'file'), 'utf8')).to.equal('content');
      });
    });
  }

  it('leaves nothing mounted', () => {
    expect(mountPoints().filter(point => point.startsWith(`${host.root}/`))).to.deep.equal([]);
  });
});
