import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage, Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { parse } from 'yaml';
import { quote } from '../../../scripts/lib/daemon.ts';
import { varveScript } from '../../../scripts/lib/paths.ts';
import { run } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { Unavailable } from '../../../src/errors/errors.ts';
import { type AdminParts, adminApp } from '../../../src/servers/admin/admin.ts';
import { httpServer } from '../../../src/servers/http.ts';
import { FakeLayerStore, trash, verification } from '../../support/fake-layer-store.ts';
import { layerFace } from '../../support/layer-face.ts';
import { type Outcome, outcome, startVarve } from './program.ts';

describe('varve layer', () => {
  let directory: string;
  let server: Server;
  let store: FakeLayerStore;
  let socket: string;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'varve-layer-'));
    socket = join(directory, 'admin.sock');
    store = new FakeLayerStore();
    const parts = { ...layerFace({ default: store }), ready: Promise.resolve() };
    server = httpServer(adminApp(parts as unknown as AdminParts));
    server.listen(socket);
    await once(server, 'listening');
    store.add('base', { usage: { bytes: 2048, inodes: 7 } });
    store.add('app', { parent: 'base' });
    store.add('c 1', { parent: 'app', kind: 'active', usage: null });
    store.usages.set('c 1', { bytes: 512, inodes: 2 });
  });

  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    rmSync(directory, { recursive: true });
  });

  const start = (args: readonly string[], stdin: 'ignore' | 'pipe' = 'ignore') =>
    startVarve(['layer', ...args], { VARVE_SOCKET: socket, LC_ALL: 'C.UTF-8' }, stdin);
  const layer = (...args: readonly string[]): Promise<Outcome> => outcome(start(args));
  const done = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await layer(...args);
    expect({ code, stderr }, args.join(' ')).to.deep.equal({ code: 0, stderr: '' });
    return stdout;
  };
  const failed = async (code: number, ...args: readonly string[]): Promise<string> => {
    const ended = await layer(...args);
    expect(ended.code, `${args.join(' ')}: ${ended.stdout}${ended.stderr}`).to.equal(code);
    expect(ended.stderr).to.match(/^varve: .+\n$/);
    return ended.stderr.trim();
  };
  const path = (name: string) => join(directory, name);
  /** What is in the directory besides the socket: nothing may be left there. */
  const files = () => readdirSync(directory).filter(name => name !== 'admin.sock');

  it('ls shows a table, names, JSON and YAML, of all or of those that a filter lets through', async () => {
    expect(await done('ls')).to.match(
      /^NAME +STORE +KIND +PARENT +OWN +USED BY +CREATED +HEALTH\nbase +default +committed +- +2\.0 KiB +- .* ago +ok\n/,
    );
    expect(await done('ls', '-q', '--store', 'default')).to.equal('base\napp\nc 1\n');
    const active = JSON.parse(await done('ls', '--filter', 'kind==active', '--format', 'json')) as object[];
    expect(active).to.have.length(1);
    expect(parse(await done('ls', '--filter', 'kind==active', '--format', 'yaml'))).to.deep.equal(active);
  });

  it('ls prints no sequence that a terminal would obey', async () => {
    store.add('a\x1b[2Jb');
    expect(await done('ls', '-q')).to.include('a\\x1b[2Jb');
    expect(await done('ls')).to.include('a\\x1b[2Jb');
  });

  it('tree draws plain characters where no terminal is', async () => {
    expect(await done('tree')).to.include(
      '\n* base   committed   2.0 KiB\n* app    committed   1000 B\no c 1 ',
    );
    const [space] = JSON.parse(await done('tree', '--format', 'json')) as { store: string }[];
    expect(space).to.include({ store: 'default' });
  });

  it('inspect shows several, and goes on after one that is not there', async () => {
    const { code, stdout, stderr } = await layer('inspect', 'base', '5', 'ap');
    expect(code).to.equal(3);
    expect(stderr).to.equal('varve: no such layer: "5"; `varve layer ls` shows those there are\n');
    expect(JSON.parse(stdout)).to.have.length(2);
    expect(JSON.parse(stdout)[1]).to.deep.include({ name: 'app', beneath: ['base'], children: ['c 1'] });
  });

  it('du attributes every byte, and adds them up', async () => {
    store.found = [trash(8, 1024, 'old'), { ...trash(9, 1024), kind: 'unrecorded' }];
    const text = await done('du');
    expect(text).to.match(/^base +committed +2\.0 KiB +7 +c 1$/m);
    expect(text).to.match(/^c 1 +active +512 B +2 +itself$/m);
    expect(text).to.match(/^#8 old +trash +1\.0 KiB +1 +reclaimable: removed$/m);
    expect(text).to.match(/^#9 +unrecorded +1\.0 KiB +1 +orphaned: not in the records$/m);
    expect(text).to.match(
      /^own +3\.5 KiB\nshared +0 B\nreclaimable +1\.0 KiB\norphaned +1\.0 KiB\ntotal +5\.5 KiB$/m,
    );
  });

  it('changes and diff list paths with sizes, against the parent or what is named', async () => {
    store.changed = [
      { path: '/etc', kind: 'modified', bytes: 0 },
      { path: '/etc/\x1b[2Jx', kind: 'added', bytes: 1024 },
      { path: '/old', kind: 'deleted', bytes: 0 },
    ];
    expect(await done('changes', 'c')).to.equal(
      [
        'modified           -   /etc',
        'added        1.0 KiB   /etc/\\x1b[2Jx',
        'deleted            -   /old',
        '',
        '1 added, 1 modified, 1 deleted; 1.0 KiB',
        '',
      ].join('\n'),
    );
    expect(JSON.parse(await done('diff', 'base', 'c 1', '--format', 'json'))).to.deep.equal(store.changed);
    await done('changes', 'app', '--base', '');
    expect(store.compared).to.deep.equal([
      ['app', 'c 1'],
      ['base', 'c 1'],
      [null, 'app'],
    ]);
    store.changed = [];
    expect(await done('changes', 'app')).to.equal('no changes\n');
  });

  describe('verify', () => {
    it('reads what is named, or every committed layer', async () => {
      expect(await done('verify', 'base')).to.equal(
        'NAME   VERDICT   VERIFIED   RECORDED   READ\nbase   ok        3          0          4.0 KiB\n',
      );
      const all = JSON.parse(await done('verify', '--all', '--format', 'json')) as { name: string }[];
      expect(all.map(({ name }) => name)).to.deep.equal(['base', 'app']);
    });

    it('ends with 1 when a file is wrong, and says which', async () => {
      store.onVerify = async () => ({
        ...verification,
        problems: [{ path: '/etc/passwd', problem: 'content differs' }],
      });
      const { code, stdout } = await layer('verify', 'base');
      expect(code).to.equal(1);
      expect(stdout)
        .to.match(/^base +1 wrong /m)
        .and.to.match(/^base +content differs +\/etc\/passwd$/m);
    });

    it('prints no table when nothing could be verified', async () => {
      const { code, stdout } = await layer('verify', 'nope');
      expect({ code, stdout }).to.deep.equal({ code: 3, stdout: '' });
      expect((await layer('verify', 'nope', '--format', 'json')).stdout).to.equal('[]\n');
    });

    it('goes on after one that cannot be verified', async () => {
      const { code, stdout, stderr } = await layer('verify', 'c 1', 'app');
      expect(code).to.equal(4);
      expect(stderr).to.include('not committed');
      expect(stdout).to.match(/^app +ok/m);
    });
  });

  it('gc says what it would delete, and deletes it', async () => {
    expect(await done('gc', '--dry-run')).to.equal('There is nothing to delete.\n');
    store.found = [trash(8, 1024, 'old'), trash(9, 1024)];
    store.inUse = [9];
    expect(await done('gc', '--dry-run')).to.match(/\n2 would be deleted, 2\.0 KiB\n$/);
    expect(store.found).to.have.length(2);
    expect(await done('gc')).to.match(
      /^#8 old +default +1\.0 KiB +1\n\n1 deleted, 1\.0 KiB\nStill in use, and deleted later: 1\n$/m,
    );
  });

  it('rm removes, and refuses what others rest on', async () => {
    expect(await failed(4, 'rm', 'base')).to.include('rests on');
    expect(await done('rm', 'c 1', 'app')).to.equal('c 1\napp\n');
    expect([...store.infos.keys()]).to.deep.equal(['base']);
  });

  describe('import', () => {
    it('makes a layer of a file, or of the standard input, and prints its name', async () => {
      writeFileSync(path('a.tar'), 'archive');
      expect(await done('import', path('a.tar'), '--name', 'new', '--parent', 'ba')).to.equal('new\n');
      expect(store.infos.get('new')).to.include({ parent: 'base' });
      const child = start(['import', '-'], 'pipe');
      child.stdin?.end('from a pipe');
      expect((await outcome(child)).stdout).to.equal(`sha256:${'d'.repeat(64)}\n`);
      expect(store.applied.map(String)).to.deep.equal(['archive', 'from a pipe']);
    });

    it('ends with 4 when the layer is there already', async () => {
      writeFileSync(path('a.tar'), 'archive');
      const asked = once(server, 'request') as Promise<[IncomingMessage]>;
      expect(await failed(4, 'import', path('a.tar'), '--name', 'base')).to.include('is there already');
      // Were the connection closed with the answer, who is still sending would not always see it.
      expect((await asked)[0].headers.connection).to.equal('keep-alive');
    });

    it('names a file that cannot be read, and leaves nothing', async () => {
      expect(await failed(3, 'import', path('none.tar'))).to.include(`cannot read ${path('none.tar')}`);
      expect(await failed(4, 'import', directory, '--name', 'x')).to.include('it is a directory');
      await until('the import to be given up', 5_000, () => store.infos.size === 3);
    });

    it('of a broken archive ends with 2 and leaves nothing', async () => {
      writeFileSync(path('a.tar'), 'broken');
      expect(await failed(2, 'import', path('a.tar'))).to.include('broken at byte 3');
      expect(store.infos.size).to.equal(3);
    });
  });

  describe('export', () => {
    it('writes a file, or to the standard output', async () => {
      expect(await done('export', 'app', '-o', path('app.tar'))).to.equal('');
      expect(readFileSync(path('app.tar'), 'utf8')).to.equal('archive');
      expect(await done('export', 'app', '--base', '')).to.equal('archive');
      expect(store.compared).to.deep.equal([
        ['base', 'app'],
        [null, 'app'],
      ]);
      expect(files()).to.deep.equal(['app.tar']);
    });

    it('writes the archive that the layer was imported from', async () => {
      expect(await done('export', 'app', '--original', '-o', path('app.tar'))).to.equal('');
      expect(readFileSync(path('app.tar'), 'utf8')).to.equal('original');
      expect(store.compared).to.deep.equal([]);
      expect(await failed(2, 'export', 'app', '--original', '--base', 'base')).to.include("'--base <layer>'");
    });

    it('that fails in the middle leaves the file that was there, and no other', async () => {
      store.diffPieces = async function* () {
        yield Buffer.alloc(1024 ** 2);
        throw new Unavailable('the disk is gone');
      };
      writeFileSync(path('app.tar'), 'the old one');
      expect(await failed(5, 'export', 'app', '-o', path('app.tar'))).to.include('broke off');
      expect(await failed(5, 'export', 'app', '-o', path('new.tar'))).to.include('broke off');
      expect(readFileSync(path('app.tar'), 'utf8')).to.equal('the old one');
      expect(files()).to.deep.equal(['app.tar']);
    });

    it('that a signal ends leaves no file', async () => {
      const more = Promise.withResolvers<void>();
      store.diffPieces = async function* () {
        yield Buffer.alloc(1024 ** 2);
        await more.promise;
      };
      const child = start(['export', 'app', '-o', path('app.tar')]);
      await until('a file to be written', 10_000, () => files().length === 1);
      child.kill('SIGTERM');
      expect((await outcome(child)).code).to.equal(130);
      more.resolve();
      expect(files()).to.deep.equal([]);
    });

    it('follows a link, writes to a pipe as it is, and refuses a directory', async () => {
      writeFileSync(path('real.tar'), '');
      symlinkSync('real.tar', path('link.tar'));
      await done('export', 'app', '-o', path('link.tar'));
      expect(readFileSync(path('real.tar'), 'utf8')).to.equal('archive');
      expect(spawnSync('mkfifo', [path('fifo')]).status).to.equal(0);
      const reader = startReader(path('fifo'));
      await done('export', 'app', '-o', path('fifo'));
      expect(await reader).to.equal('archive');
      mkdirSync(path('d'));
      expect(await failed(4, 'export', 'app', '-o', path('d'))).to.include('it is a directory');
      expect(await failed(3, 'export', 'app', '-o', path('none/a.tar'))).to.include('cannot write');
      expect(existsSync(path('fifo'))).to.equal(true);
    });
  });

  describe('on a terminal', () => {
    /** Runs a command on one, and waits for `text` on its screen before `goOn`. @returns the screen */
    const onScreen = async (args: readonly string[], text: RegExp, goOn: () => void): Promise<string> => {
      let screen = '';
      const command = [process.execPath, varveScript, '--socket', socket, 'layer', ...args]
        .map(quote)
        .join(' ');
      const finished = run(
        'script',
        ['-qec', `export LC_ALL=C.UTF-8; stty cols 120 rows 30 && exec ${command}`, '/dev/null'],
        {
          timeoutMs: 30_000,
          onOutput: output => {
            screen += output;
          },
        },
      );
      try {
        await until(`${text} on the screen`, 15_000, () => text.test(screen));
      } catch (error) {
        throw new Error(`on the screen is ${JSON.stringify(screen.slice(-300))}`, { cause: error });
      } finally {
        goOn();
      }
      await finished;
      return screen;
    };
    const bar = (title: string) => new RegExp(`${title}.*\\[[#-]{20}\\] \\d+%, `, 's');
    const held = () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      return { promise, goOn: resolve };
    };

    it('import shows how much was sent, and then only the name', async () => {
      const { promise, goOn } = held();
      store.onApply = () => promise;
      writeFileSync(path('a.tar'), Buffer.alloc(20 * 1024 ** 2));
      const screen = await onScreen(['import', path('a.tar'), '--name', 'new'], bar('Importing '), goOn);
      expect(screen).to.include('new\r\n');
    });

    it('verify shows which layer is read, and how far that is', async () => {
      const { promise, goOn } = held();
      store.onVerify = async ({ onProgress }) => {
        onProgress?.({ doneBytes: 1024, totalBytes: 4096 });
        await promise;
        return verification;
      };
      await onScreen(['verify', '--all'], bar('Verifying.*1 of 2: base '), goOn);
    });

    it('gc shows how much is gone', async () => {
      const { promise, goOn } = held();
      store.found = [trash(8, 4096), trash(9, 4096)];
      const cleanup = store.cleanup.bind(store);
      store.cleanup = async () => {
        store.found = [trash(9, 4096)];
        await promise;
        return cleanup();
      };
      const screen = await onScreen(['gc'], /Deleting removed layers.*#{10}-{10}\] 50%, 4\.0 KiB/s, goOn);
      expect(screen).to.include('2 deleted, 8.0 KiB');
    });

    it('export to a file shows how much was written', async () => {
      const { promise, goOn } = held();
      store.diffPieces = async function* () {
        yield Buffer.alloc(500);
        await promise;
      };
      await onScreen(['export', 'app', '-o', path('a.tar')], bar('Exporting to '), goOn);
      expect(readFileSync(path('a.tar'))).to.have.length(500);
    });

    it('export and import refuse to write an archive there, or to have it typed', async () => {
      const nothing = () => undefined;
      await onScreen(['export', 'app'], /name a file with -o/, nothing);
      await onScreen(['import', '-'], /the standard input is a terminal/, nothing);
    });

    it('tree draws lines', async () => {
      await onScreen(['tree'], /^● base .*○ c 1 /ms, () => undefined);
    });
  });
});

/** Reads a pipe to its end without holding up this process. */
async function startReader(fifo: string): Promise<string> {
  const { spawn } = await import('node:child_process');
  const { text } = await import('node:stream/consumers');
  return text(spawn('cat', [fifo], { stdio: ['ignore', 'pipe', 'ignore'] }).stdout);
}
