import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { parse } from 'yaml';
import { quote } from '../../../scripts/lib/daemon.ts';
import { varveScript } from '../../../scripts/lib/paths.ts';
import { childrenOf, commandLine } from '../../../scripts/lib/proc.ts';
import { must, type Result, run } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { Scratch } from '../../support/host-scratch.ts';

describe('the varve command and a running daemon', function () {
  this.timeout(60_000);
  let daemon: TestDaemon;
  let scratch: Scratch;

  before(async () => {
    scratch = await Scratch.make();
    daemon = await startDaemon();
  });
  after(async () => {
    await daemon?.dispose();
    await scratch?.remove();
  });

  let names = 0;
  const newName = () => `cli${++names}`;
  const configFile = () => join(daemon.directory, 'config.yaml');
  /** Runs a command that has to end with 0. @returns its standard output */
  const done = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await daemon.varve(...args);
    expect(exitCode, `varve ${args.join(' ')}: ${stderr}`).to.equal(0);
    return stdout.trim();
  };
  /** Runs a command that has to fail. @returns what it said */
  const failed = async (code: number, ...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await daemon.varve(...args);
    expect(exitCode, `varve ${args.join(' ')}: ${stdout}${stderr}`).to.equal(code);
    expect(stderr).to.match(/^varve: .+\n$/s);
    return stderr.trim();
  };
  const create = async (...options: string[]) => {
    const name = newName();
    await done('volume', 'create', name, '--driver', daemon.driver, ...options);
    return name;
  };
  const inspect = async (name: string) =>
    (JSON.parse(await done('volume', 'inspect', name)) as Record<string, unknown>[])[0] ?? {};

  describe('output', () => {
    const commands = [
      {
        words: ['volume', 'ls'],
        header: /^NAME +DRIVER +POOL +STATE +HEALTH +USED +LIMIT +CONSUMERS +CREATED$/m,
      },
      { words: ['volume', 'du'], header: /^NAME +USED +INODES$/m },
      { words: ['status'], header: /^Version +\d.*^DRIVER +POOL +ADDRESS$/ms },
      { words: ['doctor'], header: /^VERDICT +CHECK +FINDING$/m },
      { words: ['config'], header: /^KEY +VALUE +UNIT +SOURCE +MEANING$/m },
      { words: ['state', 'check'], header: /^The records, the disk and the mount table agree\.$/m },
      { words: ['volume', 'inspect', 'shown'], header: undefined },
      { words: ['state', 'export'], header: undefined },
    ];
    before(() => done('volume', 'create', 'shown', '--driver', daemon.driver, '-o', 'mode=0700'));
    after(() => done('volume', 'rm', 'shown'));

    for (const { words, header } of commands) {
      const command = `varve ${words.join(' ')}`;
      it(`${command} prints the same data as JSON and as YAML`, async () => {
        const [json, yaml] = await Promise.all([
          daemon.varve(...words, '--format', 'json'),
          daemon.varve(...words, '--format', 'yaml'),
        ]);
        expect([json.stderr, yaml.stderr]).to.deep.equal(['', '']);
        const changing = (key: string, value: unknown) => (/At$|Bytes$/.test(key) ? undefined : value);
        const plain = (data: unknown): unknown => JSON.parse(JSON.stringify(data, changing));
        const data: unknown = JSON.parse(json.stdout);
        expect(plain(parse(yaml.stdout))).to.deep.equal(plain(data));
        if (!words.includes('check')) expect(data).not.to.be.empty;
      });

      if (header === undefined) continue;
      it(`${command} prints a table for people`, async () => {
        const { stdout, stderr } = await daemon.varve(...words);
        expect(stderr).to.equal('');
        expect(stdout).to.match(header);
      });
    }

    it('volume ls -q prints names and nothing else', async () => {
      const all = JSON.parse(await done('volume', 'ls', '--format', 'json')) as { name: string }[];
      expect((await done('volume', 'ls', '-q')).split('\n')).to.deep.equal(all.map(({ name }) => name));
    });

    it('a format that a command does not have is refused', async () => {
      expect(await failed(2, 'volume', 'ls', '--format', 'xml')).to.include('table, json, yaml');
      expect(await failed(2, 'state', 'export', '--format', 'table')).to.include('json, yaml');
    });

    for (const shell of ['bash', 'zsh', 'fish']) {
      it(`completion ${shell} names the commands`, async () => {
        const script = await done('completion', shell);
        for (const word of ['volume', 'doctor', 'rebuild', 'unprotect']) expect(script).to.include(word);
      });
    }

    it('the completion of bash is a script that bash can read, and knows the volumes', async () => {
      const script = join(scratch.path, 'completion');
      writeFileSync(script, await done('completion', 'bash'));
      await must('bash', ['-n', script]);
      expect((await done('completion', 'names')).split('\n')).to.include('shown');
    });
  });

  describe('volumes', () => {
    it('S13 create, inspect, list, measure, remove', async () => {
      const name = await create('-o', 'mode=0750', '-o', 'uid=1000', '-o', 'gid=');
      const view = await inspect(name);
      expect(view).to.include({ name, driver: daemon.driver, pool: 'default', phase: 'Ready', health: 'ok' });
      expect(view['options']).to.deep.equal({ mode: '0750', uid: '1000' });
      const data = join(daemon.root, 'pools/default', String(view['number']), 'data');
      expect(statSync(data)).to.include({ uid: 1000, gid: 0, mode: 0o40750 });
      writeFileSync(join(data, 'big'), Buffer.alloc(100_000, 1));
      const [usage] = JSON.parse(await done('volume', 'du', name, '--format', 'json')) as [
        { bytes: number; inodes: number },
      ];
      expect(usage.bytes).to.be.within(100_000, 200_000);
      expect(usage.inodes).to.equal(2);
      expect(await done('volume', 'rm', name)).to.equal(name);
      await until('the data to go', 10_000, () => !existsSync(data));
      expect(await failed(3, 'volume', 'inspect', name)).to.equal(`varve: no such volume: ${name}`);
    });

    it('S13 a volume in use is not removed, and the message says who uses it', async () => {
      const name = await create();
      const { body } = await daemon.plugin('VolumeDriver.Mount', { Name: name, ID: 'one' });
      const used = await scratch.directory(name);
      await must('mount', ['--bind', (body as { Mountpoint: string }).Mountpoint, used]);
      expect(await failed(4, 'volume', 'rm', name)).to.include(`mounted on ${used}`);
      expect(await inspect(name)).to.include({ phase: 'Ready' });
      await must('umount', [used]);
      expect(await failed(4, 'volume', 'rm', name)).to.include('its container may be starting');
      await daemon.plugin('VolumeDriver.Unmount', { Name: name, ID: 'one' });
      await done('volume', 'rm', name);
    });

    it('S13 a protected volume is not removed, from the plugin socket either', async () => {
      const name = await create();
      expect(await done('volume', 'protect', name)).to.equal(name);
      expect(await failed(4, 'volume', 'rm', name)).to.include(`varve volume unprotect ${name}`);
      const answer = await daemon.plugin('VolumeDriver.Remove', { Name: name });
      expect(answer.status).to.equal(500);
      expect(await done('volume', 'ls')).to.match(new RegExp(`^${name} .*Ready, protected`, 'm'));
      await done('volume', 'unprotect', name);
      await done('volume', 'rm', name);
    });

    it('a command with several names goes on after one fails', async () => {
      const [first, last] = [await create(), await create()];
      const { exitCode, stdout, stderr } = await daemon.varve('volume', 'rm', first, 'missing', last);
      expect(exitCode).to.equal(3);
      expect(stdout).to.equal(`${first}\n${last}\n`);
      expect(stderr).to.equal('varve: no such volume: missing\n');
    });

    it('S14 an option with an empty value counts as not given', async () => {
      const name = await create('-o', 'mode=', '-o', 'pool=');
      expect((await inspect(name))['options']).to.deep.equal({});
    });
  });

  describe('S14 errors', () => {
    const errors: readonly [code: number, words: string[], says: RegExp][] = [
      [1, ['volume', 'create', 'x', '-o', 'size=1Gi'], /cannot enforce a size.*leave size out/],
      [2, ['volume', 'create', 'x', '-o', 'siez=1g'], /unknown option "siez"; did you mean "size"/],
      [2, ['volume', 'create', 'x', '-o', 'mode=9'], /mode="9" is not an octal mode/],
      [2, ['volume', 'create', 'x', '-o', 'mode=0700', '-o', 'mode=0711'], /mode is given twice/],
      [2, ['volume', 'create', '../../etc'], /"\.\.\/\.\.\/etc" is not allowed/],
      [2, ['volume', 'create', 'x', '-o', 'help'], /the options of a varve volume are:.*from-path/s],
      [2, ['volume', 'create'], /missing required argument/],
      [2, ['volume', 'sl'], /unknown command 'sl'/],
      [2, ['volume', 'ls', '--fast'], /unknown option '--fast'/],
      [2, ['state', 'rebuild'], /confirm with --yes/],
      [3, ['volume', 'inspect', 'missing'], /no such volume: missing/],
      [3, ['volume', 'rm', 'missing'], /no such volume: missing/],
      [3, ['volume', 'protect', 'missing'], /no such volume: missing/],
      [3, ['volume', 'create', 'x', '-o', 'pool=nowhere'], /no such pool: nowhere; the pools are: default/],
      [3, ['volume', 'create', 'x', '--driver', 'nowhere'], /no such driver: nowhere/],
      [3, ['volume', 'create', 'x', '-o', 'from-path=/nowhere'], /\/nowhere is not a directory/],
      [3, ['config', '--config', '/nowhere.yaml'], /\/nowhere\.yaml does not exist/],
      [4, ['state', 'rebuild', '--yes'], /locked by process \d+.*stop it/],
      [5, ['status', '--socket', '/nowhere.sock'], /does not answer on \/nowhere\.sock; start it/],
    ];
    for (const [code, words, says] of errors) {
      it(`S14 varve ${words.join(' ')} ends with ${code} and says why`, async () => {
        expect(await failed(code, ...words)).to.match(says);
        expect(await done('volume', 'ls', '-q')).not.to.match(/^x$/m);
      });
    }

    it('S14 a name that is taken with other options is refused, with the difference', async () => {
      const name = await create('-o', 'mode=0700');
      await done('volume', 'create', name, '--driver', daemon.driver, '-o', 'mode=0700');
      const words = ['volume', 'create', name, '--driver', daemon.driver, '-o', 'mode=0711'];
      expect(await failed(4, ...words)).to.include('mode is "0700", asked for "0711"');
    });
  });

  describe('from-path', () => {
    let source: string;
    before(async () => {
      source = await scratch.directory('source');
      for (let at = 0; at < 10_000; at += 1) writeFileSync(join(source, `file-${at}`), 'some bytes\n');
    });

    const copier = () => childrenOf(daemon.pid).find(pid => commandLine(pid).includes('-a'));
    /** Stops the copy in its middle, until what `act` returns has ended. */
    async function whileCopying(name: string, act: () => Promise<void>): Promise<void> {
      const pid = await until(`cp for ${name}`, 10_000, copier);
      process.kill(pid, 'SIGSTOP');
      try {
        await act();
      } finally {
        process.kill(pid, 'SIGCONT');
      }
    }

    it('waits until the copy is complete', async () => {
      const name = await create('-o', `from-path=${source}`);
      const view = await inspect(name);
      expect(view).to.include({ phase: 'Ready', progress: null });
      const data = join(daemon.root, 'pools/default', String(view['number']), 'data');
      await must('diff', ['--recursive', source, data]);
    });

    it('on a terminal shows how far the copy is', async () => {
      const name = newName();
      const words = ['volume', 'create', name, '--driver', daemon.driver, '-o', `from-path=${source}`];
      const command = [process.execPath, varveScript, '--socket', daemon.adminSocket, ...words];
      let screen = '';
      const shell = `stty cols 100 rows 30 && exec ${command.map(quote).join(' ')}`;
      const finished = run('script', ['-qec', shell, '/dev/null'], {
        timeoutMs: 30_000,
        onOutput: text => {
          screen += text;
        },
      });
      await whileCopying(name, async () => {
        await until('the progress bar', 10_000, () => /Copying into .*\[[#-]{20}\] \d+%, /s.test(screen));
      });
      expect((await finished).exitCode).to.equal(0);
      expect(screen).to.match(new RegExp(`${name}\\r\\n`));
      expect(await inspect(name)).to.include({ phase: 'Ready' });
    });

    it('with --no-wait returns at once; until it is complete the volume says how far it is', async () => {
      const name = newName();
      const words = ['volume', 'create', name, '--driver', daemon.driver, '--no-wait'];
      const created = done(...words, '-o', `from-path=${source}`);
      await whileCopying(name, async () => {
        expect(await created).to.equal(name);
        expect(await done('volume', 'ls')).to.match(new RegExp(`^${name} .*Creating \\d+%`, 'm'));
        const answer = await daemon.plugin('VolumeDriver.Mount', { Name: name, ID: 'one' });
        expect(answer.status).to.equal(500);
        expect((answer.body as { Err: string }).Err).to.match(/is not ready yet: .* copied; try again later/);
      });
      await until('the copy', 20_000, async () => (await inspect(name))['phase'] === 'Ready');
    });

    it('a copy that is no longer wanted can be removed while it is made', async () => {
      const name = newName();
      const words = ['volume', 'create', name, '--driver', daemon.driver, '--no-wait'];
      await done(...words, '-o', `from-path=${source}`);
      await done('volume', 'rm', name);
      expect(copier()).to.equal(undefined);
      expect(await done('volume', 'ls', '-q')).not.to.include(name);
    });
  });

  describe('configuration', () => {
    const config = (args: string[], env: Readonly<Record<string, string>> = {}): Promise<Result> =>
      run(process.execPath, [varveScript, 'config', '--format', 'json', ...args], {
        env: { PATH: process.env['PATH'], VARVE_CONFIG: configFile(), ...env },
        timeoutMs: 20_000,
      });

    it('config names the source of every value: flag, variable, file and line, or default', async () => {
      const { stdout } = await config(['--log-level', 'debug'], { VARVE_INTERVALS_USAGE_SECONDS: '7' });
      const entries = JSON.parse(stdout) as { key: string; value: unknown; source: string; doc: string }[];
      const of = (key: string) => {
        const { value, source } = entries.find(entry => entry.key === key) ?? {};
        return { value, source };
      };
      const line = readFileSync(configFile(), 'utf8').split('\n').indexOf('engine: none') + 1;
      expect(of('log.level')).to.deep.equal({ value: 'debug', source: '--log-level' });
      expect(of('intervals.usageSeconds')).to.deep.equal({
        value: 7,
        source: 'VARVE_INTERVALS_USAGE_SECONDS',
      });
      expect(of('engine')).to.deep.equal({ value: 'none', source: `${configFile()}:${line}` });
      expect(of('log.format')).to.deep.equal({ value: 'auto', source: 'default' });
      expect(entries.filter(({ doc }) => doc === '')).to.deep.equal([]);
    });

    it('an unknown key ends the daemon with 2, names the nearest key, and binds nothing', async () => {
      const other = await startDaemon({ start: false, config: { intervals: { reconcileSecond: 5 } } });
      try {
        const { exitCode, stderr } = await other.varve('daemon');
        expect(stderr).to.match(/config\.yaml:\d+: .*did you mean intervals\.reconcileSeconds\?/);
        expect(exitCode).to.equal(2);
        expect([other.socket, other.adminSocket, other.root].filter(existsSync)).to.deep.equal([]);
      } finally {
        await other.dispose();
      }
    });

    it('an unknown VARVE_ variable names the nearest one', async () => {
      const { exitCode, stderr } = await config([], { VARVE_LOG_LEVLE: 'debug' });
      expect(exitCode).to.equal(2);
      expect(stderr).to.match(/VARVE_LOG_LEVLE.*VARVE_LOG_LEVEL/);
    });
  });

  describe('doctor', () => {
    interface Finding {
      readonly check: string;
      readonly verdict: string;
      readonly fix: string | null;
    }

    it('finds nothing wrong with a host on which the daemon runs, and gives each fault its cure', async () => {
      const { exitCode, stdout } = await daemon.varve('doctor', '--format', 'json');
      const findings = JSON.parse(stdout) as Finding[];
      const of = (check: string) => findings.filter(finding => finding.check === check);
      expect(of('kernel')[0]?.verdict).to.equal('ok');
      expect(of('root').map(({ verdict }) => verdict)).to.include('ok');
      expect(findings.filter(({ verdict, fix }) => verdict !== 'ok' && fix === null)).to.deep.equal([]);
      const isWell = findings.every(({ verdict }) => verdict !== 'failure');
      expect(exitCode).to.equal(isWell ? 0 : 1);
    });

    it('ends with 1 for a root where nothing can be kept', async () => {
      const file = join(scratch.path, 'file');
      writeFileSync(file, '');
      const { exitCode, stdout } = await daemon.varve('doctor', '--format', 'json', '--root', `${file}/root`);
      const failures = (JSON.parse(stdout) as Finding[]).filter(({ verdict }) => verdict === 'failure');
      expect(failures.map(({ check }) => check)).to.include('root');
      expect(exitCode).to.equal(1);
    });
  });

  describe('state', () => {
    it('export holds every volume with what it was made of', async () => {
      const name = await create('-o', 'mode=0701');
      const { version, objects } = JSON.parse(await done('state', 'export')) as {
        version: number;
        objects: { key: string; value: Record<string, unknown> }[];
      };
      expect(version).to.equal(1);
      const record = objects.find(({ key }) => key === `volumes/${name}`)?.value;
      expect(record).to.include({ name, driver: daemon.driver, phase: 'Ready' });
      expect(record?.['options']).to.deep.equal({ mode: '0701' });
    });

    it('check ends with 1 when something disagrees, and --repair ends the disagreement', async () => {
      const name = await create();
      const manifest = join(
        daemon.root,
        'pools/default',
        String((await inspect(name))['number']),
        'volume.json',
      );
      const text = readFileSync(manifest, 'utf8');
      writeFileSync(manifest, '{');
      const found = await daemon.varve('state', 'check');
      expect(found.exitCode).to.equal(1);
      expect(found.stdout).to.match(
        new RegExp(`^damaged-manifest +${name} .*--repair: write volume.json`, 'm'),
      );
      expect(readFileSync(manifest, 'utf8')).to.equal('{');
      expect((await daemon.varve('state', 'check', '--repair')).exitCode).to.equal(0);
      expect(readFileSync(manifest, 'utf8')).to.equal(text);
      expect(await done('state', 'check')).to.include('agree');
    });

    it('check finds data that is gone, which nothing can repair', async () => {
      const name = await create();
      const directory = join(daemon.root, 'pools/default', String((await inspect(name))['number']));
      rmSync(directory, { recursive: true });
      const found = await daemon.varve('state', 'check', '--repair');
      expect(found.exitCode).to.equal(1);
      expect(found.stdout).to.match(new RegExp(`^missing-data +${name} .*by hand`, 'm'));
      await done('volume', 'rm', name);
      expect(await done('state', 'check')).to.include('agree');
    });
  });

  describe('the process', () => {
    /** Sends the first half of a request. */
    async function halfRequest(): Promise<{ socket: Socket; answer: Promise<string>; rest: string }> {
      const body = JSON.stringify({ Name: newName(), Opts: null });
      const head = `POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nContent-Length: ${body.length}\r\n\r\n`;
      const socket = connect(daemon.socket);
      let text = '';
      const answer = new Promise<string>(resolve => {
        socket.on('data', (part: Buffer) => {
          text += part.toString();
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(text));
      });
      await new Promise<void>(resolve => {
        socket.write(head + body.slice(0, 5), () => resolve());
      });
      return { socket, answer, rest: body.slice(5) };
    }
    const isStopping = () => daemon.log().split('\n').at(-2)?.includes('stopping') ?? false;
    const sockets = () => [daemon.socket, daemon.adminSocket].filter(existsSync);
    const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

    it('S12 both sockets are for the owner alone', () => {
      expect([daemon.socket, daemon.adminSocket].map(modeOf)).to.deep.equal(['600', '600']);
    });

    it('a second daemon on the same root is refused by the pid of the first, which is not disturbed', async () => {
      const before = sockets().map(path => statSync(path).ino);
      expect(await failed(4, 'daemon')).to.include(`locked by process ${daemon.pid}`);
      expect(sockets().map(path => statSync(path).ino)).to.deep.equal(before);
      expect(await done('status', '--format', 'json')).to.include(`"pid": ${daemon.pid}`);
      expect((await daemon.plugin('VolumeDriver.List', {})).status).to.equal(200);
    });

    it('S12 SIGTERM: a request under way is answered, then the sockets are gone', async () => {
      const { socket, answer, rest } = await halfRequest();
      process.kill(daemon.pid, 'SIGTERM');
      await until('the daemon to stop listening', 10_000, () => isStopping() && sockets().length < 2);
      socket.write(rest);
      expect(await answer).to.match(/^HTTP\/1\.1 200 OK\r\n[\s\S]*\{\}$/);
      expect(await daemon.ended()).to.deep.equal({ code: 0, signal: null });
      expect(sockets()).to.deep.equal([]);
      await daemon.start();
      expect(await done('volume', 'ls', '-q')).to.include(`cli${names}`);
    });

    it('a second signal ends it at once, and the next start replaces the sockets', async () => {
      const { socket } = await halfRequest();
      process.kill(daemon.pid, 'SIGTERM');
      await until('the daemon to be stopping', 10_000, isStopping);
      process.kill(daemon.pid, 'SIGTERM');
      expect(await daemon.ended()).to.deep.equal({ code: 1, signal: null });
      socket.destroy();
      await daemon.start();
      expect((await daemon.plugin('VolumeDriver.List', {})).status).to.equal(200);
    });

    it('S12 sockets that a killed daemon left are replaced', async () => {
      await daemon.kill9();
      expect(sockets()).to.have.lengthOf(2);
      await daemon.start();
      expect((await daemon.plugin('VolumeDriver.List', {})).status).to.equal(200);
    });
  });
});
