import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import type { MountSource } from '../../../src/core/mount.ts';
import { toMounts } from '../../../src/servers/containerd/mounts.ts';
import { Diff } from '../../../src/wire/gen/containerd/services/diff/v1/diff_pb.ts';
import { Snapshots } from '../../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { FakeContainerd } from '../../support/fake-containerd.ts';
import { TestGrpcClient } from '../../support/grpc-client.ts';
import { digestOf } from '../../support/layer-archive.ts';
import { randomBytes } from '../../support/layer-tree.ts';
import type { SnapshotsClient } from '../../support/snapshots-client.ts';
import { SnapshotsHost, type SnapshotsWorld } from '../../support/snapshots-world.ts';

const { apply, diff } = Diff.method;
const oci = 'application/vnd.oci.image.layer.v1.tar';
const docker = 'application/vnd.docker.image.rootfs.diff.tar';

/** gRPC status codes. */
const [cancelled, notFound, failedPrecondition, aborted, unimplemented] = [1, 5, 9, 10, 12];

describe('the differ on the socket of a snapshotter', function () {
  this.timeout(60_000);
  const containerd = new FakeContainerd();
  const metadata = { 'containerd-namespace': 'default' };
  let host: SnapshotsHost;
  let world: SnapshotsWorld;
  let store: SnapshotsClient;
  let client: TestGrpcClient;
  let archive: Buffer;

  before(async () => {
    host = await SnapshotsHost.make();
    await containerd.listen(host.containerd);
    archive = await tarOf('small', { 'etc/os': 'Debian', 'bin/sh': 'a shell' });
  });
  after(async () => {
    containerd.close();
    await host?.remove();
  });

  beforeEach(async () => {
    world = await host.open();
    store = world.store;
    client = new TestGrpcClient(host.socket);
  });
  afterEach(async () => {
    containerd.onRead = async () => undefined;
    client.close();
    await world.close();
  });

  const tarOf = async (name: string, files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> => {
    const directory = await host.directory(`memory/${name}`);
    for (const [file, content] of Object.entries(files)) {
      mkdirSync(join(directory, file, '..'), { recursive: true });
      writeFileSync(join(directory, file), content);
    }
    await must('tar', ['-C', directory, '--sort=name', '-cf', `${directory}.tar`, '.']);
    return readFileSync(`${directory}.tar`);
  };
  const descriptor = (bytes: Buffer, mediaType: string) => ({
    ...{ mediaType, digest: containerd.add(bytes), size: BigInt(bytes.length) },
  });
  const fill = (sources: readonly MountSource[], bytes: Buffer, mediaType = oci, more: object = {}) =>
    client.ask(
      apply,
      { mounts: toMounts(sources), diff: descriptor(bytes, mediaType), ...more },
      { metadata },
    );
  const seen = async (sources: readonly MountSource[], file: string): Promise<string> => {
    const path = await world.mount(sources);
    try {
      return readFileSync(join(path, file), 'utf8');
    } finally {
      await world.unmount(path);
    }
  };
  /** A committed layer of the archive, a container over it that has changed something, and the view that it is compared with. */
  const container = async () => {
    await fill(await store.prepare('default/1/extract-1-a base'), archive);
    await store.commit('default/1/base', 'default/1/extract-1-a base');
    const right = await store.prepare('default/2/container', { parent: 'default/1/base' });
    const path = await world.mount(right);
    writeFileSync(join(path, 'new'), 'new');
    rmSync(join(path, 'bin'), { recursive: true });
    const left = await store.view('default/3/view', { parent: 'default/1/base' });
    return { left, right, path };
  };
  const compare = (left: readonly MountSource[], right: readonly MountSource[], more: object = {}) =>
    client.ask(diff, { left: toMounts(left), right: toMounts(right), ...more }, { metadata });
  const listOf = async (bytes: Buffer): Promise<readonly string[]> => {
    const path = join(await host.directory('memory/lists'), 'list.tar');
    writeFileSync(path, bytes);
    return (await must('tar', ['-tf', path])).stdout.trim().split('\n').sort();
  };
  const blobOf = (digest: string) => {
    const blob = containerd.blobs.get(`default ${digest}`);
    if (blob === undefined) throw new Error(`containerd has no blob ${digest}`);
    return blob;
  };

  for (const [mediaType, compress] of [
    [oci, (bytes: Buffer) => bytes],
    [`${oci}+gzip`, gzipSync],
    [`${oci}+zstd`, zstdCompressSync],
    [docker, (bytes: Buffer) => bytes],
    [`${docker}.gzip`, gzipSync],
    [`${docker}.zstd`, zstdCompressSync],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', gzipSync],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', gzipSync],
  ] as const) {
    it(`S1 applies ${mediaType}, and tells the digest and length of the plain archive`, async () => {
      const sources = await store.prepare('default/1/extract-1-a x');
      const { applied } = await fill(sources, compress(archive), mediaType);
      expect(applied).to.deep.include({
        ...{ mediaType: oci, digest: digestOf(archive), size: BigInt(archive.length) },
      });
      expect(await seen(sources, 'etc/os')).to.equal('Debian');
    });
  }

  it('has brought the data to the disk when it answers', async () => {
    const sources = await store.prepare('key');
    host.hold('none');
    await fill(sources, archive);
    expect([...host.daemon.hits()]).to.include('layer.sync:after');
    host.hold('none');
    await store.commit('name', 'key');
    expect(await seen(await store.view('view', { parent: 'name' }), 'bin/sh')).to.equal('a shell');
  });

  it('refuses what another differ may be able to do, and changes nothing then', async () => {
    const sources = await store.prepare('key');
    await store.prepare('base');
    await store.commit('name', 'base');
    const over = await store.prepare('over', { parent: 'name' });
    const good = { mounts: toMounts(sources), diff: descriptor(archive, oci) };
    const [bind] = toMounts(sources);
    const [overlay] = toMounts(over);
    const foreign = [
      [{ ...bind, source: '/var/lib/containerd/7/fs' }],
      [{ ...bind, source: `${bind?.source}/etc` }],
      [{ ...bind, source: `${bind?.source}/../../1/fs` }],
      [{ ...bind, target: '/etc' }],
      [{ ...bind, type: 'ext4' }],
      [{ ...overlay, options: [...(overlay?.options ?? []), 'lowerdir=/etc'] }],
      [{ ...overlay, options: ['lowerdir=/etc'] }],
      [bind ?? {}, bind ?? {}],
      [],
    ];
    const requests = [
      ...foreign.map(mounts => ({ ...good, mounts })),
      { ...good, diff: { ...good.diff, mediaType: `${oci}+encrypted` } },
      { ...good, diff: { ...good.diff, mediaType: '' } },
      { ...good, payloads: { key: { typeUrl: 'x', value: new Uint8Array() } } },
    ];
    for (const [index, request] of requests.entries()) {
      const { code, details } = await client.failure(apply, request, { metadata });
      expect(code, `${index}: ${details}`).to.equal(unimplemented);
      expect(details).to.include('walking');
    }
    const gone = { ...good.diff, digest: `sha256:${'0'.repeat(64)}` };
    expect(await client.failure(apply, { ...good, diff: gone }, { metadata })).to.include({ code: notFound });
    expect(await client.failure(apply, good)).to.include({ code: failedPrecondition });
    expect(await store.stat('key')).to.include({ damage: null, diffId: null });
    expect((await fill(sources, archive)).applied?.digest).to.equal(digestOf(archive));
  });

  it('takes the namespace from the name of the layer where containerd tells none', async () => {
    const sources = await store.prepare('default/1/extract-1-a x');
    const request = { mounts: toMounts(sources), diff: descriptor(archive, oci) };
    expect((await client.ask(apply, request)).applied?.digest).to.equal(digestOf(archive));
  });

  it('S1 compares a container with its image: what was changed is in the blob, and nothing else', async () => {
    const { left, right, path } = await container();
    const { diff: made } = await compare(left, right);
    expect(made?.mediaType).to.equal(`${oci}+gzip`);
    const { bytes, labels } = blobOf(made?.digest ?? '');
    expect(made?.size).to.equal(BigInt(bytes.length));
    const plain = gunzipSync(bytes);
    expect(labels).to.deep.equal({ 'containerd.io/uncompressed': digestOf(plain) });
    expect(await listOf(plain)).to.deep.equal(['.wh.bin', 'new']);
    await world.unmount(path);

    const sibling = await store.prepare('sibling', { parent: 'default/1/base' });
    const { applied } = await fill(sibling, bytes, `${oci}+gzip`);
    expect(applied?.digest).to.equal(digestOf(plain));
    expect(await seen(sibling, 'new')).to.equal('new');
    await store.commit('default/2/top', 'default/2/container');
    const again = await compare(left, await store.view('v', { parent: 'default/2/top' }));
    expect(again.diff, 'a committed layer').to.deep.include({ digest: made?.digest });
  });

  it('honours the media type, the labels and the ref', async () => {
    const { left, right, path } = await container();
    await world.unmount(path);
    const types: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
      [oci]: bytes => bytes,
      [`${oci}+zstd`]: zstdDecompressSync,
      [`${docker}.gzip`]: gunzipSync,
    };
    const digests = new Set<string>();
    for (const [mediaType, decompress] of Object.entries(types)) {
      const labels = { of: mediaType };
      const { diff: made } = await compare(left, right, { mediaType, labels, ref: `ref of ${mediaType}` });
      expect(made?.mediaType).to.equal(mediaType);
      const blob = blobOf(made?.digest ?? '');
      const diffId = digestOf(decompress(blob.bytes));
      digests.add(diffId);
      expect(blob.labels).to.deep.equal({ ...labels, 'containerd.io/uncompressed': diffId });
      expect(containerd.writes.at(-1)).to.deep.equal({
        ...{ ref: `ref of ${mediaType}`, lease: 'lease-of-our-own' },
      });
    }
    expect(digests.size, 'one archive, however it is compressed').to.equal(1);
    const request = { left: toMounts(left), right: toMounts(right) };
    await client.ask(diff, request, { metadata: { ...metadata, 'containerd-lease': 'theirs' } });
    expect(containerd.writes.at(-1)).to.include({ lease: 'theirs' });
  });

  it('compares with nothing, and reads mounts that somebody made read-only', async () => {
    const { right, path } = await container();
    await world.unmount(path);
    const nothing = await store.view('nothing');
    const one = await compare(nothing, right, { mediaType: oci });
    const other = await compare([], right, { mediaType: oci });
    expect(one.diff?.digest).to.equal(other.diff?.digest);
    const list = await listOf(blobOf(one.diff?.digest ?? '').bytes);
    expect(list).to.deep.equal(['etc/', 'etc/os', 'new']);
    // As BuildKit does before it compares a snapshot that is still active.
    const [overlay] = right;
    if (overlay?.type !== 'overlay') throw new Error('it should have been an overlay');
    const upper = overlay.options.find(option => option.startsWith('upperdir='))?.slice('upperdir='.length);
    const options = overlay.options
      .filter(option => !/^(upper|work)dir=/.test(option))
      .map(option => option.replace('lowerdir=', `lowerdir=${upper}:`));
    const readonly = await compare([], [{ type: 'overlay', options }], { mediaType: oci });
    expect(readonly.diff?.digest).to.equal(one.diff?.digest);
  });

  it('refuses to compare what it cannot, and to change times', async () => {
    const { left, right, path } = await container();
    await world.unmount(path);
    const [request, foreign] = [
      { left: toMounts(left), right: toMounts(right) },
      [{ type: 'bind', source: '/etc', options: ['rbind', 'ro'] }],
    ];
    for (const wrong of [
      { left: foreign },
      { right: foreign },
      { right: [] },
      { mediaType: 'application/vnd.oci.image.layer.v1.tar+xz' },
      { sourceDateEpoch: { seconds: 1n, nanos: 0 } },
    ]) {
      const { code, details } = await client.failure(diff, { ...request, ...wrong }, { metadata });
      expect(code, details).to.equal(unimplemented);
    }
  });

  describe('while an archive is on its way', () => {
    let large: Buffer;
    let arrived: Promise<void>;
    let goOn: () => void;

    before(async () => {
      large = await tarOf('large', { big: randomBytes(4 << 20, 1) });
    });

    beforeEach(() => {
      const [first, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      [arrived, goOn] = [first.promise, gate.resolve];
      containerd.onRead = () => {
        first.resolve();
        return gate.promise;
      };
    });
    afterEach(() => goOn());

    const start = (sources: readonly MountSource[]) => {
      const request = { mounts: toMounts(sources), diff: descriptor(large, oci) };
      const { call, answer } = client.start(apply, request, { metadata });
      return {
        call,
        outcome: answer.then(
          () => 0,
          (error: { code: number }) => error.code,
        ),
      };
    };

    it('its layer can be removed and cleaned up at once, as garbage collection does', async () => {
      const { outcome } = start(await store.prepare('default/1/extract-1-a x'));
      await arrived;
      const began = performance.now();
      await store.remove('default/1/extract-1-a x');
      expect(await store.cleanup()).to.deep.equal({ left: 0 });
      expect(performance.now() - began, 'ms').to.be.lessThan(5_000);
      expect(await outcome).to.equal(aborted);
      await host.expectNoStrays();
    });

    it('a commit of its layer is refused at once, and works afterwards', async () => {
      const key = 'default/1/extract-1-a x';
      const commit = { snapshotter: 'varve', key, name: 'name' };
      const { outcome } = start(await store.prepare(key));
      await arrived;
      const given = await client.failure(Snapshots.method.commit, commit, { deadlineMs: 5_000 });
      expect(given).to.deep.include({ code: failedPrecondition });
      expect(given.details).to.include('is being applied to it');
      goOn();
      expect(await outcome).to.equal(0);
      await store.commit('name', key);
      await store.remove('name');
    });

    it('all else goes on', async () => {
      const { outcome } = start(await store.prepare('default/1/extract-1-a x'));
      await arrived;
      await store.prepare('other');
      await store.commit('name', 'other');
      await store.remove('name');
      goOn();
      expect(await outcome).to.equal(0);
    });

    it('a client that goes away ends it, and the half layer can only be removed', async () => {
      const sources = await store.prepare('key');
      const { call, outcome } = start(sources);
      await arrived;
      call.cancel();
      expect(await outcome).to.equal(cancelled);
      await until('it to end', 5_000, async () => (await store.stat('key')).damage !== null);
      const commit = { snapshotter: 'varve', key: 'key', name: 'name' };
      expect(await client.failure(Snapshots.method.commit, commit)).to.include({ code: failedPrecondition });
      await store.remove('key');
    });

    it('S3 a kill leaves a layer that says so, is refused, and can be removed with all its files', async () => {
      const { outcome } = start(await store.prepare('default/1/extract-1-a x'));
      await arrived;
      await host.daemon.kill9();
      expect(await outcome).to.equal(14);
      goOn();
      await host.daemon.start();
      const { damage } = await store.stat('default/1/extract-1-a x');
      expect(damage).to.include('in part only');
      const commit = { snapshotter: 'varve', key: 'default/1/extract-1-a x', name: 'name' };
      const { code, details } = await client.failure(Snapshots.method.commit, commit);
      expect(code, details).to.equal(failedPrecondition);
      expect(details).to.include('with the engine (docker rmi, ctr images rm), then pull');
      await store.remove('default/1/extract-1-a x');
      expect(await store.cleanup()).to.deep.equal({ left: 0 });
      await host.expectNoStrays();
    });
  });
});
