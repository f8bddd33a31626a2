import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type ConfigInputs, type LoadedConfig, loadConfig } from '../../../src/config/load.ts';
import { InvalidArgument, NotFound, Unavailable, VarveError } from '../../../src/errors/errors.ts';

describe('loadConfig', () => {
  let directory: string;
  let file: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'varve-config-'));
    file = join(directory, 'config.yaml');
  });
  after(() => rmSync(directory, { recursive: true }));

  const load = (yaml: string, inputs: Partial<ConfigInputs> = {}): LoadedConfig => {
    writeFileSync(file, yaml);
    return loadConfig({ environment: {}, configFile: file, ...inputs });
  };
  const refusal = (act: () => unknown): VarveError => {
    try {
      act();
    } catch (error) {
      if (error instanceof VarveError) return error;
      throw error;
    }
    throw new Error('it was not refused');
  };
  const refused = (yaml: string, inputs: Partial<ConfigInputs> = {}): string => {
    const error = refusal(() => load(yaml, inputs));
    expect(error).to.be.instanceOf(InvalidArgument);
    return error.message;
  };
  const sourceOf = ({ entries }: LoadedConfig, key: string) =>
    entries.find(entry => entry.key === key)?.source;

  describe('defaults', () => {
    it('hold without a file, a variable or a flag', () => {
      const { config, entries } = loadConfig({ environment: {}, defaultFile: join(directory, 'none.yaml') });
      expect(config).to.deep.equal({
        root: '/var/lib/varve',
        mountPoints: '/var/lib/varve/mnt',
        run: '/run/varve',
        debug: false,
        managed: false,
        adminSocket: '/run/varve/varve.sock',
        engine: 'unix:///var/run/docker.sock',
        log: { level: 'info', format: 'auto' },
        intervals: { reconcileSeconds: 30, usageSeconds: 300 },
        pools: { default: { driver: 'directory', path: '/var/lib/varve/pools/default' } },
        layerStores: {
          default: { driver: 'auto', path: '/var/lib/varve/layers/default' },
          containerd: { driver: 'auto', path: '/var/lib/varve/layers/containerd' },
          docker: { driver: 'auto', path: '/var/lib/varve/layers/docker' },
        },
        drivers: {
          varve: {
            ...{ pool: 'default', socket: '/run/docker/plugins/varve.sock', options: {} },
            layerStore: 'docker',
          },
        },
        snapshotters: {
          varve: {
            ...{ socket: '/run/varve/containerd.sock', layerStore: 'containerd', sync: 'apply' },
            containerd: '/run/containerd/containerd.sock',
          },
        },
      });
      expect(entries.map(entry => entry.source)).to.satisfy((all: string[]) =>
        all.every(s => s === 'default'),
      );
    });

    it('follow the keys that they are derived from', () => {
      const { config } = load('root: /data/\nrun: /data/run\ndrivers: {nas: }');
      expect(config.root).to.equal('/data');
      expect(config.adminSocket).to.equal('/data/run/varve.sock');
      expect(config.pools['default']?.path).to.equal('/data/pools/default');
      expect(config.layerStores['default']?.path).to.equal('/data/layers/default');
      expect(config.drivers['nas']?.socket).to.equal('/run/docker/plugins/nas.sock');
    });

    it('hold for an empty file, for comments only, and for keys without a value', () => {
      for (const yaml of ['', '# nothing\n', 'root:\nlog:\npools:\n', 'null']) {
        expect(load(yaml).config.root).to.equal('/var/lib/varve');
      }
    });
  });

  describe('sources', () => {
    const environment = { VARVE_LOG_LEVEL: 'warn', VARVE_INTERVALS_RECONCILE_SECONDS: '7' };
    const yaml = 'root: /a\nlog:\n  level: error\nintervals: {reconcileSeconds: 5, usageSeconds: 6}\n';

    it('are stronger in the order flag, variable, file, default', () => {
      const loaded = load(yaml, { environment, flags: { 'log.level': 'debug' } });
      expect(loaded.config.log.level).to.equal('debug');
      expect(sourceOf(loaded, 'log.level')).to.equal('--log-level');
      expect(loaded.config.intervals).to.deep.equal({ reconcileSeconds: 7, usageSeconds: 6 });
      expect(sourceOf(loaded, 'intervals.reconcileSeconds')).to.equal('VARVE_INTERVALS_RECONCILE_SECONDS');
      expect(sourceOf(loaded, 'intervals.usageSeconds')).to.equal(`${file}:4`);
      expect(sourceOf(loaded, 'root')).to.equal(`${file}:1`);
      expect(sourceOf(loaded, 'run')).to.equal('default');
    });

    it('leave out a variable that is empty', () => {
      const loaded = load('log: {level: error}', { environment: { VARVE_LOG_LEVEL: '', VARVE_CONFIG: '' } });
      expect(loaded.config.log.level).to.equal('error');
    });

    it('come with unit and meaning', () => {
      const entry = load('').entries.find(({ key }) => key === 'intervals.usageSeconds');
      expect(entry).to.deep.include({ unit: 's', value: 300 });
      expect(entry?.doc).to.not.equal('');
    });

    it('are known for keys below names', () => {
      const loaded = load('pools:\n  nas:\n    path: /mnt/nas\ndrivers:\n  nas:\n    pool: nas\n');
      expect(sourceOf(loaded, 'pools.nas.path')).to.equal(`${file}:3`);
      expect(sourceOf(loaded, 'drivers.nas.pool')).to.equal(`${file}:6`);
      expect(sourceOf(loaded, 'drivers.nas.socket')).to.equal('default');
    });
  });

  describe('the file', () => {
    it('is the one of VARVE_CONFIG, unless --config names another', () => {
      writeFileSync(file, 'root: /variable');
      const other = join(directory, 'other.yaml');
      writeFileSync(other, 'root: /flag');
      const environment = { VARVE_CONFIG: file };
      expect(loadConfig({ environment }).config.root).to.equal('/variable');
      expect(loadConfig({ environment, configFile: other }).config.root).to.equal('/flag');
    });

    it('must exist when it is named', () => {
      const missing = join(directory, 'missing.yaml');
      for (const inputs of [
        { environment: {}, configFile: missing },
        { environment: { VARVE_CONFIG: missing } },
      ]) {
        const error = refusal(() => loadConfig(inputs));
        expect(error).to.be.instanceOf(NotFound);
        expect(error.message).to.include(missing);
      }
    });

    it('is refused when it cannot be read', () => {
      const error = refusal(() => loadConfig({ environment: {}, defaultFile: directory }));
      expect(error).to.be.instanceOf(Unavailable);
    });

    it('is refused when it is not YAML, with the line', () => {
      expect(refused('root: /a\nrun: [')).to.include(file).and.to.include('line 2');
    });

    it('is refused when a key stands twice', () => {
      expect(refused('root: /a\nroot: /b')).to.include('line 2');
    });

    it('is refused when it is no map', () => {
      expect(refused('- root')).to.include('not a map');
      expect(refused('root')).to.include('not a map');
    });
  });

  describe('an unknown key', () => {
    it('is refused with its line and the nearest key', () => {
      expect(refused('run: /run/x\nrot: /a')).to.equal(
        `${file}:2: rot is not a key of the configuration; did you mean root?`,
      );
      expect(refused('log:\n  levle: debug')).to.include(`${file}:2: log.levle`).and.to.include('log.level?');
      expect(refused('admin-socket: /a')).to.include('did you mean adminSocket?');
    });

    it('is refused with the nearest key elsewhere, when none there is similar', () => {
      expect(refused('level: debug')).to.include('did you mean log.level?');
    });

    it('is refused with the known keys, when none is similar', () => {
      expect(refused('log: {zzzzzzzzzz: 1}')).to.include('the keys there are level, format');
    });

    it('is refused without a value, and as a name of Object.prototype', () => {
      expect(refused('rot:')).to.include('did you mean root?');
      expect(refused('__proto__: {root: /a}')).to.include('__proto__ is not a key');
      expect(refused('drivers: {nas: {pool: constructor}}')).to.include('not a pool');
    });
  });

  describe('a variable', () => {
    const withVariables = (environment: Record<string, string>) => refused('', { environment });

    it('that is unknown is refused with the nearest', () => {
      expect(withVariables({ VARVE_LOGLEVEL: 'debug' })).to.include('did you mean VARVE_LOG_LEVEL?');
      expect(withVariables({ VARVE_RECONCILE_SECONDS: '3' })).to.include(
        'VARVE_INTERVALS_RECONCILE_SECONDS?',
      );
      expect(withVariables({ VARVE_QQQ: '3' })).to.include('varve knows VARVE_ROOT');
    });

    it('that is reserved, or not ours, is fine', () => {
      const environment = { VARVE_SOCKET: '/a', VARVE_FAULTS: '/b', VARVELOUS: 'c' };
      expect(load('', { environment }).config.adminSocket).to.equal('/run/varve/varve.sock');
    });

    it('is named when its value is wrong', () => {
      expect(withVariables({ VARVE_LOG_LEVEL: 'loud' })).to.equal(
        'VARVE_LOG_LEVEL: log.level is "loud"; it takes error or warn or info or debug',
      );
      expect(withVariables({ VARVE_INTERVALS_USAGE_SECONDS: '1m' })).to.include('a whole number');
    });

    it('may be true or false where a key is, and nothing else', () => {
      const managed = (text: string) =>
        load('managed: true', { environment: { VARVE_MANAGED: text } }).config.managed;
      expect([managed('true'), managed('false'), managed('')]).to.deep.equal([true, false, true]);
      for (const text of ['1', 'yes', 'True'])
        expect(withVariables({ VARVE_MANAGED: text })).to.include('true or false');
    });

    it('cannot repair a parent of the wrong kind in the file', () => {
      expect(refused('log: 3', { environment: { VARVE_LOG_LEVEL: 'debug' } })).to.include(
        `${file}:1: log is 3`,
      );
    });
  });

  describe('a value', () => {
    it('is refused when it is out of range or of another type', () => {
      expect(refused('intervals: {usageSeconds: 0}')).to.include('a whole number from 1 to 86400');
      expect(refused('intervals: {usageSeconds: 1.5}')).to.include('a whole number');
      expect(refused('intervals: {usageSeconds: "30"}')).to.include('a whole number');
      expect(refused('log: {format: xml}')).to.include('auto or json or text');
    });

    it('is refused together with every other that is wrong', () => {
      expect(refused('rot: 1\nlog: {level: x}').split('\n')).to.have.length(2);
    });

    it('that is a path must be absolute, and not the whole file system', () => {
      expect(refused('root: data')).to.include('"data", which is not an absolute path');
      expect(refused('', { flags: { root: '' } })).to.include('--root: root is ""');
      expect(refused('root: /a/..')).to.include('holds everything else');
    });

    it('that is a socket must fit into an address of the kernel', () => {
      expect(load(`adminSocket: /${'a'.repeat(106)}`).config.adminSocket).to.have.length(107);
      expect(refused(`adminSocket: /${'a'.repeat(107)}`)).to.include('107 bytes');
    });
  });

  describe('the engine', () => {
    it('is that of DOCKER_HOST when it is auto', () => {
      const environment = { DOCKER_HOST: 'tcp://127.0.0.1:2375' };
      const loaded = load('engine: auto', { environment });
      expect(loaded.config.engine).to.equal('tcp://127.0.0.1:2375');
      expect(sourceOf(loaded, 'engine')).to.equal('DOCKER_HOST');
      expect(load('engine: none', { environment }).config.engine).to.equal('none');
    });

    it('is refused when nothing can talk to it', () => {
      expect(refused('', { environment: { DOCKER_HOST: 'ssh://host' } })).to.include(
        'DOCKER_HOST is "ssh://host"',
      );
      expect(refused('engine: docker')).to.include('use auto, none');
    });
  });

  describe('pools', () => {
    it('need a path and a valid name', () => {
      expect(refused('pools: {nas: {}}')).to.include('pools.nas.path is missing');
      expect(refused('pools: {nas: }')).to.include('pools.nas is missing');
      expect(refused('pools: {Nas_: {path: /a}}')).to.include('pools.Nas_ is refused');
      expect(refused('pools: {nas: {path: /a, driver: zfs}}')).to.include('it takes directory');
    });

    it('may move the implicit one', () => {
      expect(load('pools: {default: {path: /b}}').config.pools).to.deep.equal({
        default: { driver: 'directory', path: '/b' },
      });
    });

    it('do not lie inside each other', () => {
      expect(refused('pools: {a: {path: /a}, b: {path: /a/b}}')).to.include(
        'pools.b.path is /a/b, inside /a',
      );
      expect(refused('pools: {a: {path: /a}, b: {path: /a}}').split('\n')).to.have.length(1);
      expect(load('pools: {a: {path: /a}, b: {path: /ab}}').config.pools).to.have.keys('default', 'a', 'b');
    });
  });

  describe('layer stores', () => {
    it('need a path, a valid name and a driver that there is', () => {
      expect(refused('layerStores: {ctr: {}}')).to.include('layerStores.ctr.path is missing');
      expect(refused('layerStores: {Ctr_: {path: /a}}')).to.include('layerStores.Ctr_ is refused');
      expect(refused('layerStores: {ctr: {path: /a, driver: aufs}}')).to.include(
        'it takes auto or overlay or btrfs or copy or fuse-overlayfs',
      );
    });

    it('may move the implicit one, and have it use another driver', () => {
      const { layerStores } = load('layerStores: {default: {path: /b, driver: copy}}').config;
      expect(layerStores['default']).to.deep.equal({ driver: 'copy', path: '/b' });
      expect(layerStores).to.have.keys('default', 'containerd', 'docker');
    });

    it('lie neither inside each other nor inside a pool, and hold none', () => {
      expect(refused('layerStores: {a: {path: /a}, b: {path: /a/b}}')).to.include(
        'layerStores.b.path is /a/b, inside /a of layer store a',
      );
      expect(refused('pools: {a: {path: /a}}\nlayerStores: {b: {path: /a/b}}')).to.include(
        'layerStores.b.path is /a/b, inside /a of pool a',
      );
      expect(refused('pools: {a: {path: /b/a}}\nlayerStores: {b: {path: /b}}')).to.include(
        'pools.a.path is /b/a, inside /b of layer store b',
      );
      expect(refused('mountPoints: /a/b\nlayerStores: {a: {path: /a}}')).to.include(
        'mountPoints is /a/b, and layer store a is at /a',
      );
      expect(refused('layerStores: {a: {path: /}}')).to.include('layerStores.a.path is "/"');
    });
  });

  describe('what engines keep their layers in', () => {
    const snapshotters = (entries: string) => `layerStores: {two: {path: /two}}\nsnapshotters: ${entries}`;

    it('has a socket for each, beside that of `varve`', () => {
      const { config } = load(`run: /r\n${snapshotters('{varve: {limit: 20Gi}, b: {layerStore: two}}')}`);
      expect(config.snapshotters).to.have.keys('varve', 'b');
      expect(config.snapshotters['varve']).to.include({ socket: '/r/containerd.sock', limit: '20Gi' });
      expect(config.snapshotters['b']).to.include({ socket: '/r/containerd-b.sock', layerStore: 'two' });
      expect(load('drivers: {nas: {}}').config.drivers['nas']).not.to.have.property('layerStore');
    });

    it('is a layer store that there is', () => {
      expect(refused(snapshotters('{b: {layerStore: three}}'))).to.include(
        'snapshotters.b.layerStore is "three", which is not a layer store; add it under layerStores',
      );
      expect(refused('drivers: {varve: {layerStore: dokcer}}')).to.include('did you mean docker?');
    });

    it('serves one engine', () => {
      expect(refused(snapshotters('{b: {}}'))).to.include(
        'snapshotters.b.layerStore is containerd, the layer store of snapshotters.varve; each engine needs one of its own',
      );
      expect(refused('drivers: {varve: {layerStore: containerd}}')).to.include(
        'snapshotters.varve.layerStore is containerd, the layer store of drivers.varve',
      );
      expect(refused(snapshotters('{b: {layerStore: two, socket: /run/varve/containerd.sock}}'))).to.include(
        'snapshotters.b.socket is /run/varve/containerd.sock, which snapshotters.varve.socket has too',
      );
    });

    it('does not serve on the socket of a containerd, its own or that of another one', () => {
      const socket = '/run/containerd/containerd.sock';
      expect(refused(snapshotters(`{varve: {socket: ${socket}}}`))).to.include(
        `snapshotters.varve.socket is ${socket}, which snapshotters.varve.containerd has too; choose another`,
      );
      expect(
        refused(snapshotters('{b: {layerStore: two, containerd: /c, socket: /b}, varve: {socket: /c}}')),
      ).to.include('snapshotters.varve.socket is /c, which snapshotters.b.containerd has too');
      expect(refused(`drivers: {x: {socket: ${socket}}}`)).to.include(
        'snapshotters.varve.containerd has too',
      );
      expect(() => load(snapshotters('{b: {layerStore: two}}'))).to.not.throw();
    });

    it('is mounted where nothing else is', () => {
      const message = 'and storage drivers mount layers below /r/graph; neither may hold the other';
      expect(refused('root: /r\nmountPoints: /r/graph')).to.include(`mountPoints is /r/graph, ${message}`);
      expect(refused('root: /r\npools: {a: {path: /r/graph/a}}')).to.include(message);
      expect(load('managed: true\nroot: /r\nmountPoints: /r/graph').config.mountPoints).to.equal('/r/graph');
    });

    it('has a limit that is a size', () => {
      expect(refused('snapshotters: {varve: {limit: much}}')).to.include('is not a size; write it like');
      expect(refused('snapshotters: {varve: {sync: never}}')).to.include('it takes apply or later');
      expect(refused('snapshotters: {a/b: }')).to.include('the snapshotter name "a/b" is not allowed');
    });

    it('is nothing in a managed plugin', () => {
      const { config } = load('managed: true');
      expect(config.snapshotters).to.deep.equal({});
      expect(config.layerStores).to.have.keys('default');
      expect(config.drivers['varve']).not.to.have.property('layerStore');
      const refusal = 'layerStore is refused in a managed plugin, which no engine can keep its layers in';
      expect(refused('managed: true\nsnapshotters: {varve: }')).to.include(`snapshotters.varve.${refusal}`);
      expect(refused('managed: true\ndrivers: {varve: {layerStore: docker}}')).to.include(
        `drivers.varve.${refusal}`,
      );
    });
  });

  describe('mount points', () => {
    it('are where they are put, and else below the root', () => {
      expect(load('mountPoints: /mnt/').config.mountPoints).to.equal('/mnt');
      expect(load('root: /data').config.mountPoints).to.equal('/data/mnt');
    });

    it('do not lie in a pool, nor a pool among them', () => {
      const message = 'mountPoints is /a/b, and pool a is at';
      expect(refused('mountPoints: /a/b\npools: {a: {path: /a}}')).to.include(message);
      expect(refused('mountPoints: /a/b\npools: {a: {path: /a/b/c}}')).to.include(message);
      expect(load('mountPoints: /ab\npools: {a: {path: /a}}').config.mountPoints).to.equal('/ab');
    });
  });

  describe('debug', () => {
    it('logs all there is', () => {
      expect(load('debug: true\nlog: {level: error}').config.log.level).to.equal('debug');
      expect(load('log: {level: error}').config.log.level).to.equal('error');
    });
  });

  describe('drivers', () => {
    it('may change the implicit one', () => {
      const { config } = load('drivers: {varve: {options: {mode: "0700"}}}');
      expect(config.drivers).to.have.keys('varve');
      expect(config.drivers['varve']).to.deep.include({ pool: 'default', options: { mode: '0700' } });
    });

    it('need a pool that exists', () => {
      expect(refused('pools: {nas: {path: /a}}\ndrivers:\n  x:\n    pool: nsa')).to.equal(
        `${file}:4: drivers.x.pool is "nsa", which is not a pool; did you mean nas?`,
      );
    });

    it('take option defaults as they are written, and those without a value as not given', () => {
      const { config } = load(
        'drivers: {x: {options: {mode: 0770, uid: 1000, protect: true, from-path: /seed, pool: default, size: , gid: ""}}}',
      );
      expect(config.drivers['x']?.options).to.deep.equal({
        mode: '0770',
        uid: '1000',
        protect: 'true',
        'from-path': '/seed',
        pool: 'default',
      });
      expect(refused('drivers: {x: {options: {mode: [1]}}}')).to.include('drivers.x.options.mode');
    });

    const wrongDefaults = {
      'an unknown name, with the nearest': {
        yaml: '{mdoe: 0770}',
        says: 'is refused: unknown option "mdoe"; did you mean "mode"?',
      },
      'a wrong value': { yaml: '{mode: rwx}', says: 'is refused: option mode="rwx" is not an octal mode' },
      'a pool that is not there, with the nearest': {
        yaml: '{pool: defualt}',
        says: 'has a pool that is "defualt", which is not a pool; did you mean default?',
      },
      'a size, which no pool can enforce': {
        yaml: '{size: 10Gi}',
        says: 'has size=10Gi, and no kind of pool can enforce a size; remove it',
      },
      'help, which creates nothing': { yaml: '{help: }', says: 'has help, with which every create' },
    };
    for (const [title, { yaml, says }] of Object.entries(wrongDefaults)) {
      it(`refuse as an option default ${title}`, () => {
        const message = refused(`drivers:\n  x:\n    options: ${yaml}`);
        expect(message.startsWith(`${file}:3: drivers.x.options ${says}`), message).to.equal(true);
        expect(message.split('\n')).to.have.length(1);
      });
    }

    it('may name another pool as an option default', () => {
      const { config } = load('pools: {nas: {path: /a}}\ndrivers: {x: {options: {pool: nas}}}');
      expect(config.drivers['x']?.options).to.deep.equal({ pool: 'nas' });
    });

    it('do not share an address', () => {
      expect(refused('drivers: {x: {socket: /run/varve/varve.sock}}')).to.include(
        'which adminSocket has too',
      );
      expect(refused('drivers: {x: {socket: /s}, y: {socket: /s}}')).to.include(
        'which drivers.x.socket has too',
      );
    });
  });

  describe('a driver on TCP', () => {
    const tls = '{certFile: /c, keyFile: /k, caFile: /a}';
    const tcp = (settings: string) => `drivers: {x: {tcp: ${settings}}}`;

    it('is refused without TLS, with why', () => {
      expect(refused(tcp('{address: "127.0.0.1:7000"}'))).to.include('anyone who can connect could delete');
    });

    it('may go without TLS when the file says so, on a loopback address only', () => {
      const { config } = load(tcp('{address: "127.0.0.1:7000", insecure: true}'));
      expect(config.drivers['x']?.tcp).to.deep.equal({ address: '127.0.0.1:7000', insecure: true });
      expect(refused(tcp('{address: "10.0.0.1:7000", insecure: true}'))).to.include(
        'other hosts could delete',
      );
    });

    it('with TLS asks clients for certificates', () => {
      const { config } = load(tcp(`{address: "10.0.0.1:7000", tls: ${tls}}`));
      expect(config.drivers['x']?.tcp?.tls).to.deep.equal({ certFile: '/c', keyFile: '/k', caFile: '/a' });
      expect(refused(tcp('{address: "127.0.0.1:7000", tls: {certFile: /c, keyFile: /k}}'))).to.include(
        'caFile is missing',
      );
    });

    it('is refused when it says both', () => {
      expect(refused(tcp(`{address: "127.0.0.1:7000", insecure: true, tls: ${tls}}`))).to.include(
        'remove one',
      );
    });

    it('needs an address with a port', () => {
      expect(refused(tcp('{address: localhost, insecure: true}'))).to.include('not an IP address and port');
    });
  });
});
