import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { Scratch } from '../../support/host-scratch.ts';

describe('varve layer and a running daemon', function () {
  this.timeout(120_000);
  let daemon: TestDaemon;
  let scratch: Scratch;

  before(async () => {
    scratch = await Scratch.make();
    daemon = await startDaemon();
    make('base', { 'etc/os': 'Debian', 'bin/sh': 'a shell', 'usr/share/doc': 'long' });
    make('shop', { 'srv/shop': 'shop', 'etc/os': 'Debian for shops', 'usr/.wh.share': '' });
    make('blog', { 'srv/blog': 'blog' });
    await archive('base');
    await archive('shop', '--gzip');
    await archive('blog', '--zstd');
  });
  after(async () => {
    await daemon?.dispose();
    await scratch?.remove();
  });

  const path = (name: string) => join(scratch.path, name);
  const make = (name: string, files: Readonly<Record<string, string>>): void => {
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(join(path(name), file, '..'), { recursive: true });
      writeFileSync(join(path(name), file), text);
    }
  };
  const archive = (name: string, ...options: string[]) =>
    must('tar', ['-C', path(name), '--sort=name', ...options, '-cf', path(`${name}.tar`), '.']);
  /** Runs a command that has to end with 0 and say nothing else. */
  const layer = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await daemon.varve('layer', ...args);
    expect({ exitCode, stderr }, `varve layer ${args.join(' ')}`).to.deep.equal({ exitCode: 0, stderr: '' });
    return stdout.trimEnd();
  };
  const failed = async (code: number, ...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await daemon.varve('layer', ...args);
    expect(exitCode, `varve layer ${args.join(' ')}: ${stdout}${stderr}`).to.equal(code);
    return stderr.trim();
  };
  const json = async <T>(...args: string[]) => JSON.parse(await layer(...args, '--format', 'json')) as T;
  const names = async () => (await layer('ls', '-q')).split('\n').filter(Boolean).sort();
  /** Where the store keeps a layer's files. */
  const filesOf = async (name: string) => {
    const [{ number } = { number: 0 }] = await json<{ number: number }[]>('inspect', name);
    return join(daemon.root, 'layers/default', String(number), 'fs');
  };
  const tarList = async (file: string) => (await must('tar', ['-tf', file])).stdout.trim().split('\n').sort();

  it('makes no store, and no directory, before there is a layer', async () => {
    expect(await names()).to.deep.equal([]);
    expect(await layer('tree')).to.equal('');
    expect(existsSync(join(daemon.root, 'layers'))).to.equal(false);
  });

  it('S1 S2 imports stacks that share what is beneath, and draws them', async () => {
    expect(await layer('import', path('base.tar'), '--name', 'base')).to.equal('base');
    expect(await layer('import', path('shop.tar'), '--name', 'shop', '--parent', 'base')).to.equal('shop');
    expect(await layer('import', path('blog.tar'), '--name', 'blog', '--parent', 'ba')).to.equal('blog');
    expect(await layer('tree')).to.match(
      /^default: \w+, .+\nLAYER .*\n\* base +committed .* by 2\n\|-\* shop +committed .*\n`-\* blog +committed /,
    );
    expect(
      readdirSync(join(daemon.root, 'layers/default')).filter(name => /^\d+$/.test(name)),
    ).to.have.length(3);
  });

  it('S3 exports what a layer changes, and what is seen through the stack', async () => {
    await layer('export', 'shop', '-o', path('changes.tar'));
    expect(await tarList(path('changes.tar'))).to.include.members(['etc/os', 'srv/shop', 'usr/.wh.share']);
    await layer('export', 'shop', '--base', '', '-o', path('whole.tar'));
    const whole = await tarList(path('whole.tar'));
    expect(whole).to.include.members(['etc/os', 'bin/sh', 'srv/shop', 'usr/']);
    expect(whole.join()).not.to.include('share');
    expect((await must('tar', ['-xOf', path('whole.tar'), 'etc/os'])).stdout).to.equal('Debian for shops');
  });

  it('exports the same bytes each time, which make the same layer again', async () => {
    await layer('export', 'shop', '-o', path('1.tar'));
    await layer('export', 'shop', '-o', path('2.tar'));
    expect(readFileSync(path('1.tar')).equals(readFileSync(path('2.tar')))).to.equal(true);
    await layer('import', path('1.tar'), '--name', 'again', '--parent', 'base');
    expect(await layer('diff', 'shop', 'again')).to.equal('no changes');
    await layer('rm', 'again');
  });

  it('exports the very archive that was imported, so that it has the same name again', async () => {
    const digestOf = async (command: string) => (await must('sh', ['-ec', command])).stdout.split(' ')[0];
    await layer('export', 'shop', '--original', '-o', path('original.tar'));
    expect(await digestOf(`sha256sum ${path('original.tar')}`)).to.equal(
      await digestOf(`gzip -dc ${path('shop.tar')} | sha256sum`),
    );
    expect(await failed(2, 'export', 'shop', '--original', '--base', '')).to.include('--original');
  });

  it('lists what differs, with the sizes of files', async () => {
    type Change = { path: string; kind: string; bytes: number };
    const changes = await json<Change[]>('changes', 'shop');
    expect(changes).to.deep.include({ path: '/srv/shop', kind: 'added', bytes: 4 });
    expect(changes).to.deep.include({ path: '/etc/os', kind: 'modified', bytes: 16 });
    expect(changes).to.deep.include({ path: '/usr/share', kind: 'deleted', bytes: 0 });
    expect(await json<Change[]>('diff', 'shop', 'blog')).to.deep.include({
      ...{ path: '/srv/shop', kind: 'deleted', bytes: 0 },
    });
  });

  it('names a layer after its digest, and does not import it twice', async () => {
    const [digest] = (await must('sha256sum', [path('base.tar')])).stdout.split(' ');
    const bottom = `sha256:${digest}`;
    expect(await layer('import', path('base.tar'))).to.equal(bottom);
    const { stdout } = await must('sh', ['-c', 'zstd -dc "$1" | sha256sum', 'sh', path('blog.tar')]);
    const diffId = `sha256:${stdout.split(' ')[0]}`;
    const chain = await must('sh', ['-c', 'printf "%s %s" "$1" "$2" | sha256sum', 'sh', bottom, diffId]);
    const top = `sha256:${chain.stdout.split(' ')[0]}`;
    expect(await layer('import', path('blog.tar'), '--parent', String(digest?.slice(0, 12)))).to.equal(top);
    expect(await failed(4, 'import', path('base.tar'))).to.include('is there already');
    expect((await json<{ diffId: string }[]>('inspect', top))[0]).to.include({ diffId, parent: bottom });
    expect(await layer('tree')).to.match(/same archive as base/);
    await layer('rm', top, bottom);
  });

  it('attributes every byte of the files: the sums are what du(1) counts', async () => {
    const [space] = await json<{ layers: { number: number }[]; totals: Record<string, number> }[]>('du');
    const files = (space?.layers ?? []).map(({ number }) =>
      join(daemon.root, 'layers/default', `${number}`, 'fs'),
    );
    const { stdout } = await must('du', ['--block-size=1', '--summarize', '--total', ...files]);
    const counted = Number(/^(\d+)\ttotal$/m.exec(stdout)?.[1]);
    expect((space?.totals['own'] ?? 0) + (space?.totals['shared'] ?? 0)).to.equal(counted);
  });

  it('verifies layers, and says which file is wrong', async () => {
    expect(await layer('verify', '--all')).to.match(/^base +ok /m);
    const file = join(await filesOf('blog'), 'srv/blog');
    const { size } = statSync(file);
    writeFileSync(file, 'x'.repeat(size));
    const { exitCode, stdout } = await daemon.varve('layer', 'verify', 'base', 'blog');
    expect(exitCode).to.equal(1);
    expect(stdout)
      .to.match(/^base +ok /m)
      .and.to.match(/^blog +\w+ differ\w* +\/srv\/blog$/m);
    await layer('rm', 'blog');
  });

  it('does not remove what others rest on, and deletes what was removed', async () => {
    expect(await failed(4, 'rm', 'base')).to.match(/rests on it/);
    await layer('rm', 'shop', 'base');
    await layer('gc');
    expect(await layer('gc', '--dry-run')).to.equal('There is nothing to delete.');
    expect(readdirSync(join(daemon.root, 'layers/default/trash'))).to.deep.equal([]);
    expect(await names()).to.deep.equal([]);
  });

  it('refuses an archive that is cut off, and keeps nothing of it', async () => {
    truncateSync(path('base.tar'), 3 * 512);
    expect(await failed(2, 'import', path('base.tar'), '--name', 'half')).to.match(/^varve: .+/);
    expect(await names()).to.deep.equal([]);
    await archive('base');
  });

  it('keeps nothing of an import whose client goes away, nor of one that a kill -9 of the daemon cuts off', async () => {
    const half = readFileSync(path('base.tar')).subarray(0, 2048);
    const begin = () => {
      const asked = request({
        ...{ socketPath: daemon.adminSocket, method: 'POST', path: '/v1/layers?name=half' },
      });
      asked.on('error', () => undefined);
      asked.write(half);
      return asked;
    };
    const asked = begin();
    await until('the import to begin', 20_000, async () => (await names()).length === 1);
    asked.destroy();
    await until('the import to be given up', 20_000, async () => (await names()).length === 0);
    begin();
    await until('the import to begin', 20_000, async () => (await names()).length === 1);
    await daemon.kill9();
    await daemon.start();
    await until('the leftover to be removed', 20_000, async () => (await names()).length === 0);
    expect(await layer('import', path('base.tar'), '--name', 'half')).to.equal('half');
  });

  it('keeps its layers through a restart, and gets them back after the records were lost', async () => {
    await daemon.stop();
    await must('rm', [join(daemon.root, 'state.db')]);
    const { exitCode, stderr } = await daemon.varve('state', 'rebuild', '--yes');
    expect(exitCode, stderr).to.equal(0);
    await daemon.start();
    expect(await names()).to.deep.equal(['half']);
    expect(await layer('verify', '--all')).to.match(/^half +ok /m);
  });

  it('logs nothing but what it means to', () => {
    expect(daemon.log()).not.to.match(/Warning:|Error:/);
  });

  it('keeps each store apart, with the driver that it was given', async () => {
    const stores = { copies: { path: path('copies'), driver: 'copy' } };
    const other = await startDaemon({ config: { layerStores: stores } });
    try {
      const run = async (...args: string[]) => (await other.varve('layer', ...args)).stdout.trim();
      expect(await run('import', path('base.tar'), '--store', 'copies', '--name', 'base')).to.equal('base');
      expect(await run('import', path('base.tar'), '--name', 'base')).to.equal('base');
      expect(await run('tree'))
        .to.match(/^copies: copy, /m)
        .and.to.match(/^default: /m);
      const { exitCode, stderr } = await other.varve('layer', 'inspect', 'base');
      expect(exitCode).to.equal(2);
      expect(stderr).to.include('is in several stores: default, copies; choose one with --store');
      expect(await run('rm', 'base', '--store', 'copies')).to.equal('base');
      expect((await other.varve('layer', 'ls', '--store', 'none')).exitCode).to.equal(3);
    } finally {
      await other.dispose();
    }
  });
});
