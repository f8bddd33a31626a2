import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { findFuseServers } from '../../../src/host/linux/fuse-servers.ts';
import { parseMountinfo, readMountinfo } from '../../../src/host/linux/mountinfo.ts';
import { graphDriverSuite } from '../../suites/graph-driver.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { GraphClient } from '../../support/graph-client.ts';
import { inNamespace, must, Scratch } from '../../support/host-scratch.ts';
import {
  change,
  chown,
  directory,
  file,
  hardLink,
  randomBytes,
  readTree,
  remove,
  symbolicLink,
  time,
} from '../../support/layer-tree.ts';
import { rejection } from '../../support/rejection.ts';
import { skip } from '../../support/skip.ts';

const digestOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** A daemon that is a storage driver, and somebody who speaks to it. */
async function open(layers: object = {}): Promise<[TestDaemon, GraphClient]> {
  const daemon = await startDaemon({ layers: true, config: { layerStores: layers } });
  const client = new GraphClient(daemon.socket);
  await client.init();
  return [daemon, client];
}

/** The ids of the layers that are mounted, in our mount namespace. */
function mounted({ root, driver }: TestDaemon): readonly string[] {
  const prefix = `${root}/graph/${driver}/`;
  const points = parseMountinfo(readMountinfo('self')).map(({ mountPoint }) => mountPoint);
  return points.filter(point => point.startsWith(prefix)).map(point => basename(point));
}

describe('a daemon as a graph driver, with overlayfs', () => {
  let daemon: TestDaemon;
  let driver: GraphClient;
  let scratch: Scratch;

  before(async () => {
    scratch = await Scratch.make();
    [daemon, driver] = await open();
  });

  after(async () => {
    const left = [mounted(daemon), readdirSync(join(daemon.root, 'graph', daemon.driver))];
    const { stdout } = await daemon.varve('layer', 'ls', '--store', 'docker', '--format', 'json');
    await daemon.dispose();
    await scratch.remove();
    expect(left).to.deep.equal([[], []]);
    expect(JSON.parse(stdout)).to.deep.equal([]);
  });

  graphDriverSuite(() => driver, { depth: 128, limits: true });

  /** An archive with what programs write that ours would write otherwise. */
  async function foreignArchive(format: 'gnu' | 'pax' | 'ustar'): Promise<Buffer> {
    const path = mkdtempSync(join(scratch.path, format));
    const long = 'long-'.repeat(18);
    change(path, [
      ...[directory(`/${long}`), file(`/${long}/file`, randomBytes(3_000_000, 1), 0o4755)],
      ...[file('/empty', ''), file('/odd', randomBytes(513, 2), 0o600), hardLink('/odd', '/link')],
    ]);
    const words = [
      '--create',
      `--format=${format}`,
      '--sort=none',
      '--blocking-factor=33',
      '--numeric-owner',
    ];
    await must('tar', ...words, `--file=${path}.tar`, `--directory=${path}`, '.');
    return readFileSync(`${path}.tar`);
  }

  for (const format of ['gnu', 'pax', 'ustar'] as const) {
    it(`gives the archive back to the byte that a layer was made of: ${format}`, async () => {
      const archive = await foreignArchive(format);
      await driver.create('lower');
      await driver.create('exact', 'lower');
      expect(await driver.applyDiff('exact', 'lower', [archive])).to.equal(3_000_513);
      expect(await driver.diffSize('exact', 'lower')).to.equal(3_000_513);
      expect(digestOf(await driver.diff('exact', 'lower'))).to.equal(digestOf(archive));
      await driver.createReadWrite('on-top', 'exact');
      expect(digestOf(await driver.diff('exact', 'lower'))).to.equal(digestOf(archive));
      for (const id of ['on-top', 'exact', 'lower']) await driver.remove(id);
    });
  }

  it('writes the difference of a built layer to the byte as ever: dockerd keeps its digest, and no other copy', async () => {
    await driver.create('built-base');
    await driver.within('built-base', path => change(path, [directory('/d'), file('/d/gone', 'x')]));
    await driver.create('built', 'built-base');
    const odd = 'ö-'.repeat(60);
    await driver.within('built', path =>
      change(path, [
        ...[file('/d/file', 'text', 0o4640), chown('/d/file', 7, 3_000_000), hardLink('/d/file', '/link')],
        ...[symbolicLink('d/file', '/symbolic'), file(`/${odd}`, ''), remove('/d/gone')],
        ...['/d/file', '/symbolic', `/${odd}`].map(name => time(name, 1_000_000_000.5)),
        ...[directory('/e'), time('/e', 1), time('/d', 2)],
      ]),
    );
    expect(digestOf(await driver.diff('built', 'built-base'))).to.equal(
      'c427949fe03abe545fc1664a668a12e300b01c0023266bc25db8dc1f5cf10777',
    );
    for (const id of ['built', 'built-base']) await driver.remove(id);
  });

  it('takes and gives archives of any length, piece by piece', async () => {
    await scratch.directory('big');
    writeFileSync(join(scratch.path, 'big/file'), randomBytes(64 << 20, 3));
    await must(
      'tar',
      '--create',
      `--file=${scratch.path}/big.tar`,
      `--directory=${scratch.path}/big`,
      'file',
    );
    const archive = readFileSync(join(scratch.path, 'big.tar'));
    const pieces = (async function* () {
      for (let at = 0; at < archive.length; at += 1 << 20) yield archive.subarray(at, at + (1 << 20));
    })();
    await driver.create('big');
    expect(await driver.applyDiff('big', '', pieces)).to.equal(64 << 20);
    expect(digestOf(await driver.diff('big', ''))).to.equal(digestOf(archive));
    await driver.remove('big');
  });

  it('refuses an archive that is cut off or missing, as a repeated request is, and nobody can use the layer', async () => {
    const archive = await foreignArchive('pax');
    for (const broken of [archive.subarray(0, 2_000_000), Buffer.alloc(0), archive.subarray(512)]) {
      await driver.create('cut');
      expect((await rejection(driver.applyDiff('cut', '', [broken]))).message).to.contain('the archive');
      expect((await rejection(driver.applyDiff('cut', '', [archive]))).message).to.contain('was sent for');
      expect((await rejection(driver.create('child', 'cut'))).message).to.contain('in part only');
      await driver.remove('cut');
    }
    const nothing = Buffer.alloc(1024);
    await driver.create('nothing');
    expect(await driver.applyDiff('nothing', '', [nothing])).to.equal(0);
    expect(digestOf(await driver.diff('nothing', ''))).to.equal(digestOf(nothing));
    await driver.remove('nothing');
  });

  it('ends when the engine goes away in the middle of an archive, in both directions', async () => {
    const archive = await foreignArchive('gnu');
    await driver.create('half');
    const call = driver.beginApply('half', '', () => undefined);
    call.on('error', () => undefined);
    // More than anybody keeps in between: it is being unpacked then.
    call.write(archive.subarray(0, 2_000_000));
    await once(call, 'drain');
    call.destroy();
    const again = () => driver.applyDiff('half', '', [archive.subarray(2_000_000)]);
    expect((await rejection(again())).message).to.contain('was sent for');
    await driver.remove('half');

    await driver.create('whole');
    await driver.applyDiff('whole', '', [archive]);
    const response = await driver.stream('whole', '');
    await once(response, 'readable');
    response.destroy();
    await driver.remove('whole');
    await until('the layer to be deleted', 10_000, async () => {
      const { stdout } = await daemon.varve('layer', 'gc', '--store', 'docker', '--format', 'json');
      return (JSON.parse(stdout) as { left: number }).left === 0;
    });
  });

  it('a layer that others rest on is read-only, and shows what it did', async () => {
    await driver.createReadWrite('below');
    await driver.within('below', path => change(path, [file('/file', 'text')]));
    await driver.create('above', 'below');
    await driver.within('below', path => {
      expect(readTree(path).join()).to.contain('/file');
      expect(() => writeFileSync(join(path, 'new'), '')).to.throw('EROFS');
    });
    for (const id of ['above', 'below']) await driver.remove(id);
  });

  it('Put takes a mount away that somebody stands in, and its copies in other namespaces', async () => {
    await driver.createReadWrite('busy');
    const path = await driver.get('busy');
    const inside = spawn('sleep', ['600'], { cwd: path });
    const elsewhere = await inNamespace('private', 'true');
    const tableOf = (pid: number) => readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
    try {
      expect(tableOf(elsewhere.pid)).to.contain(path);
      await driver.put('busy');
      expect(existsSync(path)).to.equal(false);
      expect(tableOf(elsewhere.pid)).to.not.contain(path);
      await driver.remove('busy');
    } finally {
      await elsewhere.end();
      inside.kill('SIGKILL');
      await once(inside, 'exit');
    }
  });

  it('a label that this kernel cannot give is refused, and nothing stays mounted', async function () {
    if (existsSync('/sys/fs/selinux/enforce')) skip(this, 'this kernel gives labels');
    await driver.create('labelled-base');
    await driver.createReadWrite('labelled', 'labelled-base');
    const body = { ID: 'labelled', MountLabel: 'system_u:object_r:container_file_t:s0:c1,c2' };
    expect((await rejection(driver.call('Get', body))).message).to.contain('context');
    expect(mounted(daemon)).to.deep.equal([]);
    for (const id of ['labelled', 'labelled-base']) await driver.remove(id);
  });

  it('S4 keeps mounts, and how often they are used, when it is killed and started again', async () => {
    await driver.create('kept-base');
    await driver.createReadWrite('kept', 'kept-base');
    const path = await driver.get('kept');
    await driver.get('kept');
    writeFileSync(join(path, 'before'), '');
    await daemon.kill9();
    expect(statSync(join(path, 'before')).isFile()).to.equal(true);
    await daemon.start();
    await driver.put('kept');
    writeFileSync(join(path, 'after'), '');
    expect(mounted(daemon)).to.deep.equal(['kept']);
    await driver.put('kept');
    expect(mounted(daemon)).to.deep.equal([]);
    expect((await driver.changes('kept', 'kept-base')).map(({ Path }) => Path)).to.deep.equal([
      '/after',
      '/before',
    ]);
    for (const id of ['kept', 'kept-base']) await driver.remove(id);
  });

  it('S4 refuses a layer of which it was killed in the middle, until it is made again', async () => {
    const archive = await foreignArchive('pax');
    daemon.faults({ 'layer.apply:after': 'kill' });
    await driver.create('killed');
    await rejection(driver.applyDiff('killed', '', [archive]));
    await daemon.ended();
    daemon.faults({});
    await daemon.start();
    const { message } = await rejection(driver.create('child', 'killed'));
    expect(message).to.match(/in part only; .*with the engine \(docker rmi, /);
    await driver.remove('killed');
    await driver.create('killed');
    await driver.applyDiff('killed', '', [archive]);
    expect(digestOf(await driver.diff('killed', ''))).to.equal(digestOf(archive));
    await driver.remove('killed');
  });
});

describe('a daemon as a graph driver, with fuse-overlayfs', () => {
  let daemon: TestDaemon;
  let driver: GraphClient;
  let scratch: Scratch;

  before(async () => {
    scratch = await Scratch.make();
    [daemon, driver] = await open({
      docker: { driver: 'fuse-overlayfs', path: join(scratch.path, 'layers') },
    });
  });

  after(async () => {
    const left = mounted(daemon);
    await daemon.dispose();
    await scratch.remove();
    expect(left).to.deep.equal([]);
  });

  graphDriverSuite(() => driver, { depth: 10, limits: true });

  it('a union whose process died is mounted anew, and one that lives outlives the daemon', async () => {
    await driver.create('fuse-base');
    await driver.createReadWrite('dies', 'fuse-base');
    const path = await driver.get('dies');
    writeFileSync(join(path, 'file'), 'kept');
    await daemon.kill9();
    await daemon.start();
    expect(readFileSync(join(path, 'file'), 'utf8')).to.equal('kept');
    const server = (await findFuseServers()).find(({ target }) => target === path);
    expect(server).to.be.an('object');
    process.kill(server?.pid ?? Number.NaN, 'SIGKILL');
    await until('the union to be mounted anew', 20_000, () => daemon.log().includes('is mounted again'));
    expect(readFileSync(join(path, 'file'), 'utf8')).to.equal('kept');
    await driver.put('dies');
    for (const id of ['dies', 'fuse-base']) await driver.remove(id);
  });
});
