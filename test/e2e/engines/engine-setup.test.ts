import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { engineBin } from '../../../scripts/lib/suite-engines.ts';
import { printedSetup, setupText } from '../../../src/cli/engine-text.ts';
import { loadConfig } from '../../../src/config/load.ts';
import type { EngineName } from '../../../src/core/engine-setup/view.ts';
import { setUpEngine } from '../../../src/engines.ts';
import { messageOf } from '../../../src/errors/errors.ts';
import { toExitCode } from '../../../src/errors/to-exit-code.ts';

const suite = process.env['VARVE_ENGINE_SUITE'];
const programOf = (name: string): string => {
  const places = suite === undefined ? ['/usr/bin', '/usr/sbin'] : [engineBin(suite)];
  return places.map(place => join(place, name)).find(path => existsSync(path)) ?? name;
};

/** The engine's own programs read what is written; none is started, and no file of the host is touched. */
describe('varve engine setup', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'varve-setup-test-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  let file: string;
  beforeEach(async () => {
    file = join(await mkdtemp(join(directory, 'etc-')), 'config');
  });

  /** As the command does, but in this process: what it prints, or why it failed. */
  const setUp = async (engine: EngineName, { print = false } = {}) => {
    const environment = { VARVE_RUN: '/run/varve-setup', VARVE_ENGINE: 'unix:///none.sock' };
    const { config } = loadConfig({ environment });
    const program = programOf(engine === 'docker' ? 'dockerd' : engine);
    try {
      const setup = await setUpEngine(config, {
        engine,
        name: 'varve',
        file,
        program,
        print,
        restart: false,
      });
      return { code: 0, said: print ? printedSetup(setup) : setupText(setup), toDo: setup.lines };
    } catch (error) {
      return { code: toExitCode(error), said: messageOf(error), toDo: [] };
    }
  };
  const dropIn = () => join(file, '../conf.d/varve.toml');
  const socket = '/run/varve-setup/containerd.sock';

  describe('containerd', () => {
    const dump = async () => {
      const { stdout } = await must(programOf('containerd'), ['--config', file, 'config', 'dump']);
      return stdout.replaceAll("'", '"');
    };
    /** 1.6 ends with a panic when it finds a differ among its proxies. */
    const takesDiffer = suite !== undefined;

    it('without a configuration writes one, which containerd reads; a second time changes nothing', async () => {
      const first = await setUp('containerd');
      expect(first.code, first.said).to.equal(0);
      expect(first.toDo).to.deep.equal([]);
      const found = await dump();
      expect(found).to.match(new RegExp(`proxy_plugins.varve\\][^[]*address = "${socket}"`));
      expect(found.includes('proxy_plugins.varve-diff]')).to.equal(takesDiffer);
      expect(found).to.include(takesDiffer ? '["varve-diff", "walking"]' : '["walking"]');
      const before = [await readFile(file, 'utf8'), await readFile(dropIn(), 'utf8')];
      const second = await setUp('containerd');
      expect(second.said).to.include(`unchanged   ${dropIn()}`);
      expect(second.toDo).to.deep.equal([]);
      expect([await readFile(file, 'utf8'), await readFile(dropIn(), 'utf8')]).to.deep.equal(before);
    });

    it("changes nothing in a person's file, and says which line to add", async () => {
      const own =
        'version = 2\n\n[proxy_plugins.other]\n  type = "snapshot"\n  address = "/run/other.sock"\n';
      await writeFile(file, own);
      const { said } = await setUp('containerd');
      expect(await readFile(file, 'utf8')).to.equal(own);
      const [, line] = /to add.*:\n {2}(.*)\n/.exec(said) ?? [];
      await writeFile(file, `${line}\n${own}`);
      expect((await setUp('containerd')).toDo).to.deep.equal([]);
      expect(await dump())
        .to.include('/run/other.sock')
        .and.to.include(socket);
    });

    it('names the line to change where there are imports already', async () => {
      await mkdir(join(file, '../other.d'));
      await writeFile(file, 'version = 2\nimports = [\n  "other.d/*.toml",\n]\n');
      const { said } = await setUp('containerd');
      expect(said).to.match(
        /to change.*"other\.d\/\*\.toml".*becomes\n {2}imports = \["other\.d\/\*\.toml", "/s,
      );
    });

    it('keeps the other differs, unpackers and settings that its lists take the place of', async () => {
      const own = [
        `version = 2\nimports = ["${join(file, '../conf.d')}/*.toml"]`,
        '[plugins."io.containerd.service.v1.diff-service"]\n  default = ["erofs", "walking"]',
        '[plugins."io.containerd.transfer.v1.local"]\n  max_concurrent_downloads = 7',
        '[[plugins."io.containerd.transfer.v1.local".unpack_config]]\n  platform = "linux/amd64"\n  snapshotter = "native"\n',
      ];
      await writeFile(file, own.join('\n'));
      expect(await setUp('containerd')).to.include({ code: 0 });
      const found = await dump();
      if (!takesDiffer) return expect(found).to.include('default = ["erofs", "walking"]');
      expect(found).to.include('default = ["varve-diff", "erofs", "walking"]');
      expect(found).to.include('max_concurrent_downloads = 7');
      const unpackers = found.split('.unpack_config]]').slice(1);
      const pairs = unpackers.map(text =>
        [/snapshotter = "(.*)"/, /differ = "(.*)"/].map(key => key.exec(text)?.[1]),
      );
      expect(pairs).to.deep.equal([
        ['native', 'walking'],
        ['varve', 'varve-diff'],
      ]);
    });

    it('fits a configuration of version 1, as packages of Docker bring it', async () => {
      await writeFile(file, `imports = ["${join(file, '../conf.d')}/*.toml"]\ndisabled_plugins = ["cri"]\n`);
      const { code, said } = await setUp('containerd');
      expect(code, said).to.equal(0);
      expect(await dump()).to.include(socket);
    });

    it('writes nothing when containerd cannot read its configuration', async () => {
      await writeFile(file, 'version = 2\n[unclosed\n');
      const { code, said } = await setUp('containerd');
      expect(code).to.equal(4);
      expect(said).to.include(file).and.to.include('repair it first');
      expect(existsSync(dropIn())).to.equal(false);
    });

    it('leaves a file of another with the name of its own', async () => {
      await mkdir(join(file, '../conf.d'));
      await writeFile(dropIn(), '# mine\n');
      expect(await setUp('containerd')).to.include({ code: 4 });
      expect(await readFile(dropIn(), 'utf8')).to.equal('# mine\n');
    });

    it('--print writes nothing', async () => {
      const { code, said } = await setUp('containerd', { print: true });
      expect(code).to.equal(0);
      expect(said).to.include(`==> ${dropIn()} <==`);
      expect(await readdir(join(file, '..'))).to.deep.equal([]);
    });
  });

  describe('docker', () => {
    const written = async () => JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;

    it('adds to daemon.json what its version needs, keeps the rest, and a copy of what was there', async () => {
      const before = '{\n    "log-level": "warn",\n    "features": { "buildkit": true }\n}\n';
      await writeFile(file, before);
      const { code, said } = await setUp('docker');
      expect(code, said).to.equal(0);
      expect(await readFile(`${file}.before-varve`, 'utf8')).to.equal(before);
      const isNew = suite === 'sid';
      expect(await written()).to.deep.equal({
        'log-level': 'warn',
        features: { buildkit: true, ...(isNew && { 'containerd-snapshotter': true }) },
        ...(!isNew && { experimental: true }),
        'storage-driver': 'varve',
      });
      expect(await readFile(file, 'utf8')).to.match(/^ {4}"log-level"/m);
      expect(said).to.include('disappear from view');
      expect(said.includes('--validate')).to.equal(suite !== undefined);
      const again = await setUp('docker');
      expect(again.said).to.include(`unchanged   ${file}`);
      expect(await readdir(join(file, '..'))).to.have.members(['config', 'config.before-varve']);
    });

    it('goes on with images in containerd where a host has them there', async () => {
      await writeFile(file, '{"features":{"containerd-snapshotter":true}}');
      await setUp('docker');
      expect(await written()).to.deep.equal({
        features: { 'containerd-snapshotter': true },
        'storage-driver': 'varve',
      });
    });

    for (const [what, text, said] of [
      ['a file that is no JSON', '{"a":', 'is no JSON'],
      ['options of another storage driver', '{"storage-opts":["overlay2.size=1G"]}', 'storage-opts'],
      ['a setting that dockerd does not know', '{"nonsense":1}', 'nonsense'],
    ] as const) {
      it(`refuses ${what}, and leaves it as it is`, async () => {
        // Docker before 23 cannot read a file without starting.
        if (suite === undefined && said === 'nonsense') return;
        await writeFile(file, text);
        const refusal = await setUp('docker');
        expect(refusal.code).to.equal(4);
        expect(refusal.said).to.include(said);
        expect(await readFile(file, 'utf8')).to.equal(text);
      });
    }
  });
});
