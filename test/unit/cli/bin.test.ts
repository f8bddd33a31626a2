import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'chai';
import { parse } from 'yaml';
import { varveScript } from '../../../scripts/lib/paths.ts';
import { AdminServer, volumeView } from './admin-server.ts';
import { outcome, startVarve } from './program.ts';

describe('the varve command', () => {
  const server = new AdminServer();
  before(() => server.start());
  after(() => server.stop());
  beforeEach(() => {
    server.asked.length = 0;
    server.answer = () => ({ status: 200, body: volumeView() });
  });

  const varve = (args: string, variables: Record<string, string> = {}) =>
    outcome(startVarve(args.split(' '), { VARVE_SOCKET: server.socket, ...variables }));

  const commands = [
    ...['daemon', 'volume', 'volume ls', 'volume inspect', 'volume create', 'volume rm', 'volume protect'],
    ...[
      'volume unprotect',
      'volume du',
      'status',
      'doctor',
      'config',
      'state',
      'state export',
      'state check',
    ],
    ...['state rebuild', 'completion', 'layer', 'layer ls', 'layer tree', 'layer inspect', 'layer du'],
    ...[
      'layer diff',
      'layer changes',
      'layer verify',
      'layer gc',
      'layer import',
      'layer export',
      'layer rm',
    ],
    ...['engine', 'engine setup', 'engine check'],
  ];

  describe('--help', () => {
    for (const command of commands) {
      it(`of ${command} has examples and exit codes`, async () => {
        const { code, stdout, stderr } = await varve(`${command} --help`);
        expect(code).to.equal(0);
        expect(stderr).to.equal('');
        expect(stdout).to.include(`Usage: varve ${command}`);
        expect(stdout)
          .to.match(/\nExamples:\n {2}\S/)
          .and.to.match(/\nExit codes:\n {2}0 {3}done\n/);
      });
    }

    it('of varve lists every command', async () => {
      const { stdout } = await varve('--help');
      for (const command of commands)
        expect(stdout).to.match(new RegExp(`^ {2}${command.split(' ')[0]} `, 'm'));
    });
  });

  describe('wrong usage', () => {
    for (const [args, message] of [
      ['volume ls --formt json', "unknown option '--formt'"],
      ['volume ls --format xml', 'xml'],
      ['volume lst', "unknown command 'lst'"],
      ['volume rm', "missing required argument 'volume'"],
      ['status extra', 'too many arguments'],
      ['completion tcsh', 'tcsh'],
      ['engine setup podman', 'podman'],
      ['engine setup docker --print --restart', 'give one of them'],
      ['layer verify', 'or give --all'],
      ['layer verify base --all', 'or give --all'],
      ['layer diff base', "missing required argument 'layer'"],
      ['layer import', "missing required argument 'file'"],
      ['volume create db -o a=1 -o a=2', 'given twice'],
      ['state rebuild', 'confirm with --yes'],
    ] as const) {
      it(`ends ${args} with 2 and a sentence`, async () => {
        const { code, stdout, stderr } = await varve(args);
        expect(stderr)
          .to.match(/^varve: /)
          .and.to.include(message);
        expect({ code, stdout }).to.deep.equal({ code: 2, stdout: '' });
      });
    }

    it('of a group without a command shows its help and ends with 2', async () => {
      const { code, stderr } = await varve('volume');
      expect(code).to.equal(2);
      expect(stderr).to.include('Usage: varve volume');
    });
  });

  it('ends with a sentence on a Node that is too old, before anything else is loaded', () => {
    const old = `data:text/javascript,Object.defineProperty(process,'versions',{value:{node:'22.14.9'}})`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', old, varveScript, 'status'], {
      encoding: 'utf8',
    });
    expect({ status, stdout }).to.deep.equal({ status: 2, stdout: '' });
    expect(stderr).to.match(/^varve: Node\.js 22\.14\.9 is too old; varve needs 22\.15 or newer[^\n]*\n$/);
  });

  describe('errors', () => {
    it('end with 5 when no daemon is there', async () => {
      const socket = join(server.directory, 'missing.sock');
      const { code, stdout, stderr } = await varve(`volume ls --socket ${socket}`);
      expect({ code, stdout }).to.deep.equal({ code: 5, stdout: '' });
      expect(stderr).to.equal(
        `varve: the varve daemon does not answer on ${socket}; start it with \`varve daemon\`, or name its socket with --socket or VARVE_SOCKET\n`,
      );
    });

    it('of the daemon keep their message and class, without a stack', async () => {
      server.answer = () => ({ status: 404, body: { code: 'NotFound', message: 'no volume\x1b[2J db' } });
      const { code, stderr } = await varve('volume inspect db');
      expect(code).to.equal(3);
      expect(stderr).to.equal('varve: no volume\\x1b[2J db\n');
    });

    it('show a stack when the log level is debug', async () => {
      server.answer = () => ({ status: 404, body: { code: 'NotFound', message: 'no volume db' } });
      const { stderr } = await varve('volume rm db', { VARVE_LOG_LEVEL: 'debug' });
      expect(stderr).to.match(/no volume db\n +at /);
    });

    it('of one name do not keep the others from their turn', async () => {
      server.answer = line =>
        line.endsWith('/a')
          ? { status: 409, body: { code: 'FailedPrecondition', message: 'volume a is in use' } }
          : { status: 204 };
      const { code, stdout, stderr } = await varve('volume rm a b');
      expect({ code, stdout, stderr }).to.deep.equal({
        code: 4,
        stdout: 'b\n',
        stderr: 'varve: volume a is in use\n',
      });
    });
  });

  describe('volumes', () => {
    it('are listed as a table, JSON, YAML or names', async () => {
      server.answer = () => ({ status: 200, body: [volumeView()] });
      expect((await varve('volume ls')).stdout).to.match(/^NAME +DRIVER.*\ndb +varve +default +Ready/);
      expect(JSON.parse((await varve('volume ls --format json')).stdout)).to.deep.equal([volumeView()]);
      expect(parse((await varve('volume ls --format yaml')).stdout)).to.deep.equal([volumeView()]);
      expect((await varve('volume ls -q')).stdout).to.equal('db\n');
    });

    it('are inspected as a list in JSON', async () => {
      const { stdout } = await varve('volume inspect db db');
      expect(JSON.parse(stdout)).to.deep.equal([volumeView(), volumeView()]);
    });

    it('are made with the options given, and waited for', async () => {
      const creating = volumeView({ phase: 'Creating', progress: { doneBytes: 1, totalBytes: 2 } });
      server.answer = line => ({ status: 200, body: line.startsWith('POST') ? creating : volumeView() });
      const { code, stdout } = await varve('volume create db -o uid=1 -o from-path=/a=b --driver nas');
      expect({ code, stdout }).to.deep.equal({ code: 0, stdout: 'db\n' });
      expect(server.asked).to.deep.equal([
        {
          line: 'POST /v1/volumes',
          body: { name: 'db', options: { uid: '1', 'from-path': '/a=b' }, driver: 'nas' },
        },
        { line: 'GET /v1/volumes/db', body: undefined },
      ]);
    });

    it('are not waited for with --no-wait', async () => {
      server.answer = () => ({ status: 200, body: volumeView({ phase: 'Creating' }) });
      expect(await varve('volume create db --no-wait')).to.deep.equal({
        code: 0,
        stdout: 'db\n',
        stderr: '',
      });
      expect(server.asked).to.have.length(1);
    });

    it('that could not be made fail the command', async () => {
      server.answer = () => ({
        status: 200,
        body: volumeView({ phase: 'Failed', health: '/srv/db is gone' }),
      });
      const { code, stdout, stderr } = await varve('volume create db');
      expect({ code, stdout }).to.deep.equal({ code: 4, stdout: '' });
      expect(stderr).to.include('volume db could not be made: /srv/db is gone');
    });

    it('are protected and unprotected', async () => {
      expect((await varve('volume protect db')).stdout).to.equal('db\n');
      expect((await varve('volume unprotect db')).stdout).to.equal('db\n');
      expect(server.asked.map(({ line }) => line)).to.deep.equal([
        'POST /v1/volumes/db/protect',
        'POST /v1/volumes/db/unprotect',
      ]);
    });

    it('are all measured when none is named', async () => {
      const measured = volumeView({ usage: { bytes: 4096, inodes: 2, measuredAt: '2026-01-02T03:04:05Z' } });
      server.answer = line => ({ status: 200, body: line.startsWith('GET') ? [volumeView()] : measured });
      expect((await varve('volume du')).stdout).to.match(/^NAME +USED +INODES\ndb +4\.0 KiB +2\n$/);
      const [json] = JSON.parse((await varve('volume du db --format json')).stdout) as unknown[];
      expect(json).to.include({ name: 'db', bytes: 4096, inodes: 2 });
    });

    it('end quietly when the reader has seen enough', async () => {
      const many = Array.from({ length: 20_000 }, (_, at) => volumeView({ name: `v${at}` }));
      server.answer = () => ({ status: 200, body: many });
      const child = startVarve(['volume', 'ls', '--format', 'json'], { VARVE_SOCKET: server.socket });
      child.stdout?.once('data', () => child.stdout?.destroy());
      const ended = once(child, 'close');
      const stderr = child.stderr === null ? '' : await text(child.stderr);
      await ended;
      expect({ code: child.exitCode, stderr }).to.deep.equal({ code: 0, stderr: '' });
    });
  });

  describe('the state', () => {
    const finding = {
      problem: 'leftover-mount',
      subject: '/m',
      message: 'is mounted',
      repair: 'unmount',
      repaired: false,
    };

    it('is exported as JSON', async () => {
      server.answer = () => ({ status: 200, body: { version: 1, objects: [] } });
      expect(JSON.parse((await varve('state export')).stdout)).to.deep.equal({ version: 1, objects: [] });
    });

    it('ends a check with 1 while findings remain', async () => {
      server.answer = () => ({ status: 200, body: [finding] });
      expect((await varve('state check')).code).to.equal(1);
      server.answer = () => ({ status: 200, body: [{ ...finding, repaired: true }] });
      expect((await varve('state check --repair')).code).to.equal(0);
      expect(server.asked.map(({ line }) => line)).to.deep.equal([
        'POST /v1/state/check?repair=false',
        'POST /v1/state/check?repair=true',
      ]);
    });
  });

  describe('the configuration', () => {
    it('is shown with its sources', async () => {
      const file = join(server.directory, 'config.yaml');
      writeFileSync(file, 'root: /data\n');
      try {
        const { stdout } = await varve(`config --config ${file} --log-level debug --format json`, {
          VARVE_RUN: '/r',
        });
        const entries = JSON.parse(stdout) as { key: string; value: unknown; source: string }[];
        const shown = (key: string) => entries.find(entry => entry.key === key);
        expect(shown('root')).to.include({ value: '/data', source: `${file}:1` });
        expect(shown('log.level')).to.include({ value: 'debug', source: '--log-level' });
        expect(shown('adminSocket')).to.include({ value: '/r/varve.sock', source: 'default' });
        expect(shown('run')).to.include({ value: '/r', source: 'VARVE_RUN' });
      } finally {
        rmSync(file);
      }
    });

    it('says which socket the daemon is asked on', async () => {
      const variables = { VARVE_SOCKET: '', VARVE_ADMIN_SOCKET: server.socket };
      server.answer = () => ({ status: 200, body: [] });
      expect((await varve('volume ls', variables)).code).to.equal(0);
    });

    it('that is wrong ends a command with 2', async () => {
      const { code, stderr } = await varve('config', { VARVE_LOGLEVEL: 'debug' });
      expect(code).to.equal(2);
      expect(stderr).to.equal(
        'varve: VARVE_LOGLEVEL is not a variable that varve knows; did you mean VARVE_LOG_LEVEL?\n',
      );
    });
  });

  describe('completion', () => {
    it('names the volumes, and none that a shell could take for something else', async () => {
      server.answer = () => ({
        status: 200,
        body: ['db', 'a b', '$(id)', 'x.y-z'].map(name => volumeView({ name })),
      });
      expect((await varve('completion names')).stdout).to.equal('db\nx.y-z\n');
    });

    const syntaxCheck = { bash: '-n', zsh: '-n', fish: '--no-execute' };
    for (const [shell, noExecution] of Object.entries(syntaxCheck)) {
      it(`for ${shell} has every command, and is a script of that shell where it is installed`, async () => {
        const { stdout } = await varve(`completion ${shell}`);
        for (const command of commands) expect(stdout).to.include(`varve ${command}`);
        const script = join(server.directory, `completion.${shell}`);
        writeFileSync(script, stdout);
        const check = spawnSync(shell, [noExecution, script], { encoding: 'utf8' });
        if (check.error === undefined) expect(check.stderr).to.equal('');
        else expect((check.error as NodeJS.ErrnoException).code).to.equal('ENOENT');
      });
    }

    it('names the layers, with the signs that are in digests', async () => {
      server.answer = () => ({ status: 200, body: ['sha256:ab', 'a b', 'moby/1/c'].map(name => ({ name })) });
      expect((await varve('completion layers')).stdout).to.equal('sha256:ab\nmoby/1/c\n');
    });

    it('in bash completes commands, options, values, volumes, layers and files', async () => {
      const { stdout: script } = await varve('completion bash');
      const complete = (line: string, words = line.split(' ')) => {
        const program = `${script}
          varve() { case $* in *names) echo db cache ;; *layers) echo base sha256:ab sha256:cd ;; esac; }
          COMP_LINE='${line}'; COMP_POINT=${line.length}
          COMP_WORDS=(${words.map(word => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
          _varve; printf '%s\\n' "\${COMPREPLY[@]}"`;
        return spawnSync('bash', ['-c', program], { encoding: 'utf8' }).stdout.trim().split('\n');
      };
      expect(complete('varve st')).to.deep.equal(['status', 'state']);
      expect(complete('varve volume un')).to.deep.equal(['unprotect']);
      expect(complete('varve volume ls --fo')).to.deep.equal(['--format']);
      expect(complete('varve volume ls --format ')).to.deep.equal(['table', 'json', 'yaml']);
      expect(complete('varve --socket /s volume rm d')).to.deep.equal(['db']);
      expect(complete('varve volume rm db c')).to.deep.equal(['cache']);
      expect(complete('varve completion z')).to.deep.equal(['zsh']);
      expect(complete('varve layer im')).to.deep.equal(['import']);
      // Readline makes three words of a digest, and puts in only the last.
      const words = ['varve', 'layer', 'inspect', 'sha256', ':', 'a'];
      expect(complete('varve layer inspect sha256:a', words)).to.deep.equal(['ab']);
      expect(complete('varve layer inspect ba')).to.deep.equal(['base']);
      expect(complete(`varve layer import ${server.directory}/ad`)).to.deep.equal([server.socket]);
    });
  });
});
