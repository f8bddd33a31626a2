import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { expect } from 'chai';
import { nodeBinary, repository, varveScript } from '../../scripts/lib/paths.ts';
import { must, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import { version } from '../../src/lib/version.ts';
import { environment, post } from '../support/daemon.ts';
import { Scratch } from '../support/host-scratch.ts';

/** What npm starts besides Node: no compiler, no make, no Python. */
const programs = ['sh', 'env'];

describe('the npm package', function () {
  this.timeout(180_000);
  let scratch: Scratch;
  let files: readonly string[];
  let env: NodeJS.ProcessEnv;
  const inScratch = (...names: string[]) => join(scratch.path, ...names);

  before(async () => {
    scratch = await Scratch.make();
    // `scripts/test` has built it; the build that comes with `npm pack` would take it away from others meanwhile.
    if (!existsSync(varveScript)) throw new Error('dist is not there; npm run build makes it');
    const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', scratch.path];
    const { stdout } = await must('npm', pack, { cwd: repository, timeoutMs: 60_000 });
    const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
    files = packed?.files.map(({ path }) => path) ?? [];

    const bin = await scratch.directory('bin');
    for (const name of programs) symlinkSync(find(name), join(bin, name));
    symlinkSync(nodeBinary, join(bin, 'node'));
    writeFileSync(join(bin, 'npm'), `#!/bin/sh\nexec node ${realpathSync(find('npm'))} "$@"\n`);
    chmodSync(join(bin, 'npm'), 0o755);
    const prefix = await scratch.directory('prefix');
    env = { ...environment, PATH: [join(prefix, 'bin'), bin].join(delimiter), NODE_OPTIONS: '' };
    const install = ['install', '--global', '--prefix', prefix, inScratch(packed?.filename ?? '')];
    await must(join(bin, 'npm'), install, { env, timeoutMs: 150_000 });
  });
  after(() => scratch?.remove());

  const varve = (...args: string[]) => run(inScratch('prefix/bin/varve'), args, { env, timeoutMs: 30_000 });

  it('S14 holds the program, and no tests, sources or other packages', () => {
    const strange = files.filter(
      path =>
        !/^(dist\/cli\/[^/]+\.js|dist\/THIRD-PARTY-LICENSES|package\.json|README\.md|LICENSE)$/.test(path),
    );
    expect(strange).to.deep.equal([]);
    expect(files).to.include.members(['dist/cli/varve.js', 'dist/THIRD-PARTY-LICENSES', 'LICENSE']);
  });

  it('S14 brings two packages with compiled parts, and what they need', () => {
    const installed = inScratch('prefix/lib/node_modules/varve/node_modules');
    const names = readdirSync(installed).filter(name => !name.startsWith('.'));
    expect(names).to.have.members(['@koromix', 'better-sqlite3', 'koffi', 'node-addon-api']);
  });

  it('S14 runs where there is no compiler', async () => {
    const { exitCode, stdout, stderr } = await varve('--version');
    expect({ exitCode, stdout, stderr }).to.deep.equal({ exitCode: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('S14 serves volumes', async () => {
    const config = inScratch('config.yaml');
    const socket = inScratch('plugin.sock');
    const drivers = { varve: { socket } };
    const settings = { root: inScratch('root'), run: inScratch('run'), engine: 'none', drivers };
    writeFileSync(config, JSON.stringify(settings));
    const words = ['daemon', '--config', config];
    const daemon: ChildProcess = spawn(inScratch('prefix/bin/varve'), words, { env, stdio: 'ignore' });
    try {
      await until('the socket', 20_000, () => existsSync(socket));
      expect((await varve('volume', 'create', 'db', '--config', config)).stdout).to.equal('db\n');
      expect((await varve('volume', 'ls', '--quiet', '--config', config)).stdout).to.equal('db\n');
      const { body } = await post(socket, 'VolumeDriver.Mount', { Name: 'db', ID: 'a' });
      expect(body).to.deep.equal({ Mountpoint: inScratch('root/mnt/default-1') });
      await post(socket, 'VolumeDriver.Unmount', { Name: 'db', ID: 'a' });
      expect((await varve('volume', 'rm', 'db', '--config', config)).exitCode).to.equal(0);
    } finally {
      daemon.kill('SIGTERM');
      if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit');
    }
  });

  it('S14 ends with a sentence under a Node that is too old', async () => {
    const installed = inScratch('prefix/lib/node_modules/varve/dist/cli/varve.js');
    const old = await oldNode();
    const runs = [[nodeBinary, '--import', saysItIsOld], ...(old === undefined ? [] : [[old]])];
    for (const [node = '', ...options] of runs) {
      const { exitCode, stdout, stderr } = await run(node, [...options, installed, 'status']);
      expect({ exitCode, stdout }, node).to.deep.equal({ exitCode: 2, stdout: '' });
      expect(stderr).to.match(/^varve: Node\.js \d[\d.]* is too old; varve needs 22\.15 or newer[^\n]*\n$/);
    }
  });
});

/** Where a program of this machine is. */
function find(name: string, directories = (process.env.PATH ?? '').split(delimiter)): string {
  const path = directories.map(directory => join(directory, name)).find(file => existsSync(file));
  if (path === undefined) throw new Error(`${name} is not in PATH`);
  return path;
}

/** A module after which our Node says that it is an old one. */
const saysItIsOld = `data:text/javascript,Object.defineProperty(process,'versions',{value:{node:'20.0.0'}})`;

/** An old Node, where this machine has one: it understands less of the program than one that only says so. */
async function oldNode(): Promise<string | undefined> {
  const directories = (process.env.PATH ?? '')
    .split(delimiter)
    .filter(path => !path.includes('node_modules'));
  const own = directories.map(directory => join(directory, 'node')).find(file => existsSync(file));
  const said = own === undefined ? '' : (await run(own, ['--version'])).stdout;
  return /^v(1\d|20|21)\./.test(said) ? own : undefined;
}
