import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { workerScript } from '../../../scripts/lib/paths.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { openFeed } from '../../../src/drivers/layers/archive/apply-feed.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { cutFrames, isZstd } from '../../../src/drivers/layers/archive/zstd-frames.ts';
import { Aborted, InvalidArgument } from '../../../src/errors/errors.ts';
import { inPieces } from '../../support/layer-archive.ts';
import { rejection } from '../../support/rejection.ts';
import { directory, file, Layer, stream, tarOf } from './apply-world.ts';

const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const zstd = (words: readonly string[], input: Buffer) =>
  execFileSync('zstd', ['-c', ...words], { input, stdio: ['pipe', 'pipe', 'ignore'] });
const openFiles = () => readdirSync('/proc/self/fd').length;

/** @param bits the four that are free in the magic number */
function skippable(content: Buffer, bits: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a50 + bits);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

async function framesOf(...pieces: readonly Buffer[]): Promise<readonly Buffer[]> {
  const frames: Buffer[] = [];
  for await (const piece of cutFrames(stream(...pieces))) {
    if (piece.length === 4 && isZstd(Buffer.from(piece))) frames.push(Buffer.alloc(0));
    frames.push(Buffer.concat([frames.pop() ?? Buffer.alloc(0), piece]));
  }
  return frames;
}

describe('the frames of zstd data', () => {
  const repeated = Buffer.alloc(400_000, 'a');
  const random = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * index * 7919) >>> 7));
  const frames = [
    zstd(['--check'], Buffer.from('hello')),
    zstd(['--no-check', '--single-thread'], repeated),
    zstd([], Buffer.alloc(0)),
    zstd(['-19', '--no-content-size'], random),
    zstdCompressSync(random.subarray(0, 70_000)),
  ];

  it('are cut where they end, however the data is cut', async function () {
    this.timeout(30_000);
    const [one, , two] = frames as [Buffer, Buffer, Buffer];
    for (const parts of [
      [one],
      [one, two],
      [one, two, one],
      [skippable(one, 0), one, skippable(two, 15), two],
    ]) {
      const all = Buffer.concat(parts);
      const expected = parts.filter(part => part === one || part === two);
      for (let at = 0; at <= all.length; at += 1) {
        expect(await framesOf(all.subarray(0, at), all.subarray(at))).to.deep.equal(expected);
      }
      expect(await framesOf(...Array.from(all, byte => Buffer.from([byte])))).to.deep.equal(expected);
    }
    expect(await framesOf(Buffer.concat(frames))).to.deep.equal(frames);
    for (const size of [1, 7, 65_537]) {
      const pieces: Buffer[] = [];
      for await (const piece of inPieces(Buffer.concat(frames), size)) pieces.push(Buffer.from(piece));
      expect(await framesOf(...pieces)).to.deep.equal(frames);
    }
  });

  it('are refused when they end too early, or something else follows', async () => {
    const one = Buffer.concat([skippable(Buffer.from('abc'), 3), frames[0] ?? Buffer.alloc(0)]);
    const ends = new Set([0, 11, one.length]);
    for (let end = 0; end <= one.length; end += 1) {
      const attempt = framesOf(one.subarray(0, end));
      if (ends.has(end)) await attempt;
      else expect(await rejection(attempt)).to.be.instanceOf(InvalidArgument);
    }
    for (const more of ['junk', '\0\0\0\0', '\x1f\x8b\x08\0'])
      expect(await rejection(framesOf(one, Buffer.from(more, 'latin1')))).to.be.instanceOf(InvalidArgument);
  });
});

describe('the archive that is unpacked', () => {
  const tar = tarOf([directory('d'), file('d/f', Buffer.alloc(3_000_000, 'abc')), file('e', 'x')]);
  let archiver: WorkerArchiver;
  let layer: Layer;

  before(() => {
    archiver = new WorkerArchiver(workerScript);
  });

  after(() => archiver.close());

  beforeEach(() => {
    layer = new Layer(archiver, 'whole');
  });

  afterEach(() => layer.dispose());

  it('may be compressed as several zstd frames; the digest is that of all that they hold', async () => {
    const [first, second] = [tar.subarray(0, 1_000_001), tar.subarray(1_000_001)];
    const more = Buffer.alloc(512);
    for (const [content, parts] of [
      [tar, [zstd([], first), zstd([], second)]],
      [tar, [skippable(Buffer.from('seek table'), 14), zstd([], tar)]],
      [Buffer.concat([tar, more]), [zstd([], tar), zstd([], more)]],
    ] as const) {
      const bytes = Buffer.concat(parts);
      writeFileSync(layer.path('a'), bytes);
      for (const archive of [{ path: layer.path('a') }, inPieces(bytes), stream(bytes)])
        expect(await layer.applyArchive(archive)).to.deep.equal({
          diffId: sha256(content),
          bytes: 3_000_001,
          entries: 3,
          size: content.length,
        });
    }
  });

  it('is refused when something follows the zstd frames', async () => {
    const bytes = Buffer.concat([zstdCompressSync(tar), Buffer.from('junk')]);
    const error = await rejection(layer.applyArchive(stream(bytes)));
    expect(error).to.be.instanceOf(InvalidArgument).with.property('message').that.includes('not zstd');
    const short = await rejection(layer.applyArchive(stream(bytes.subarray(0, -14))));
    expect(short).to.be.instanceOf(InvalidArgument).with.property('message').that.includes('too early');
  });

  it('is no fifo, whose other end nobody may ever open', async () => {
    execFileSync('mkfifo', [layer.path('fifo')]);
    const before = openFiles();
    for (const path of [layer.path('fifo'), layer.path('fs')]) {
      const error = await rejection(openFeed({ path }, new AbortController().signal));
      expect(error).to.be.instanceOf(InvalidArgument).with.property('message').that.includes(path);
    }
    expect(openFiles()).to.equal(before);
  });

  it('is not opened when the work was cancelled before', async () => {
    writeFileSync(layer.path('a'), zstdCompressSync(tar));
    const before = openFiles();
    for (const archive of [{ path: layer.path('a') }, stream(tar)]) {
      expect(await rejection(openFeed(archive, AbortSignal.abort()))).to.be.instanceOf(Aborted);
    }
    expect(openFiles()).to.equal(before);
  });

  it('is closed when the work is cancelled while it is opened', async () => {
    writeFileSync(layer.path('a'), zstdCompressSync(tar));
    const before = openFiles();
    for (let index = 0; index < 5; index += 1) {
      const controller = new AbortController();
      const opening = openFeed({ path: layer.path('a') }, controller.signal);
      for (let turn = 0; turn < index; turn += 1) await new Promise(resolve => setImmediate(resolve));
      controller.abort();
      const feed = await opening;
      await rejection(feed.filled);
      await feed.close();
    }
    await until('the descriptors are closed', 5_000, () => openFiles() === before);
  });

  it('is no more waited for when the work is cancelled', async () => {
    const timers = () => process.getActiveResourcesInfo().filter(one => one === 'Timeout').length;
    const before = timers();
    const controller = new AbortController();
    const silent = async function* () {
      yield tar.subarray(0, 2048);
      setImmediate(() => controller.abort());
      await new Promise(() => undefined);
    };
    expect(await rejection(layer.applyArchive(silent(), { signal: controller.signal }))).to.be.instanceOf(
      Aborted,
    );
    await until('no timer is left', 5_000, () => timers() <= before + 1);
  });

  it('was not cut off when the work is cancelled', async function () {
    this.timeout(60_000);
    const endless = async function* () {
      yield tar.subarray(0, 1_000_000);
      for (;;) {
        yield Buffer.alloc(64);
        await new Promise(resolve => setImmediate(resolve));
      }
    };
    for (let index = 0; index < 40; index += 1) {
      const controller = new AbortController();
      const applying = rejection(layer.applyArchive(endless(), { signal: controller.signal }));
      for (let turn = 0; turn < index * 3; turn += 1) await new Promise(resolve => setImmediate(resolve));
      controller.abort();
      expect(await applying).to.be.instanceOf(Aborted);
    }
  });
});
