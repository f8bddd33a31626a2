import { expect } from 'chai';
import { planContainerd } from '../../../src/core/engine-setup/containerd.ts';
import type { EngineFaces, EngineHost, SetupRequest } from '../../../src/core/engine-setup/host.ts';
import { setUpEngine } from '../../../src/core/engine-setup/setup.ts';
import { FailedPrecondition, NotFound, Unavailable } from '../../../src/errors/errors.ts';

const faces: EngineFaces = {
  docker: 'unix:///var/run/docker.sock',
  snapshotters: { varve: { socket: '/run/v.sock', containerd: '/run/c.sock', root: '/layers' } },
  graphDrivers: { varve: { socket: '/run/plugin.sock' } },
};

/** A host with a dockerd of some version, and files that are kept in memory. */
class FakeHost implements EngineHost {
  readonly platform = 'linux/amd64';
  readonly files = new Map<string, string>();
  readonly ran: string[] = [];
  major: number | undefined = 28;
  commandLine: readonly string[] = [];
  code = 0;

  async find(name: string) {
    if (this.major === undefined) throw new NotFound(`${name} is not installed here`);
    const { major, commandLine } = this;
    return { path: `/usr/bin/${name}`, version: `${major}.1.2`, major, minor: 1, commandLine };
  }
  async run(program: string, words: readonly string[]) {
    this.ran.push([program, ...words].join(' '));
    return { code: this.code, stdout: '', stderr: 'it says no\n' };
  }
  withFiles<T>(_files: unknown, work: (directory: string) => Promise<T>) {
    return work('/scratch');
  }
  async read(path: string) {
    return this.files.get(path);
  }
  async write(path: string, text: string, backup: string | null) {
    if (backup !== null) this.files.set(backup, this.files.get(path) ?? '');
    this.files.set(path, text);
  }
  backupOf = (path: string) => `${path}.before-varve`;
  restartCommand = (engine: string) => ['systemctl', 'restart', engine] as const;
}

describe('setting up an engine', () => {
  let host: FakeHost;
  beforeEach(() => {
    host = new FakeHost();
  });

  const file = '/etc/docker/daemon.json';
  const request: SetupRequest = { engine: 'docker', name: 'varve', print: false, restart: false };
  const silent = {
    storage: async () => {
      throw new Unavailable('nobody answers');
    },
  };
  const setUp = (change: Partial<SetupRequest> = {}) =>
    setUpEngine(faces, { ...request, ...change }, host, silent);
  const written = () => JSON.parse(host.files.get(file) ?? '{}') as unknown;
  const refusal = (change?: Partial<SetupRequest>) =>
    setUp(change).then(
      () => undefined,
      (error: Error) => error,
    );

  it('Docker 27 gets the graph driver, and for systemd the variable that allows it', async () => {
    host.major = 27;
    const { face, socket } = await setUp();
    expect({ face, socket }).to.deep.equal({ face: 'graph driver', socket: '/run/plugin.sock' });
    expect(written()).to.deep.equal({ experimental: true, 'storage-driver': 'varve' });
    expect(host.files.get('/etc/systemd/system/docker.service.d/varve.conf')).to.equal(
      '[Service]\nEnvironment=DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS=1\n',
    );
  });

  it('what dockerd is started with already stays out of its file, where it would refuse it', async () => {
    host.commandLine = ['/usr/bin/dockerd', '--storage-driver=varve'];
    await setUp();
    expect(written()).to.deep.equal({ features: { 'containerd-snapshotter': true } });
  });

  it('a flag that says something else is refused', async () => {
    host.commandLine = ['/usr/bin/dockerd', '-s', 'overlay2'];
    expect(await refusal()).to.be.an.instanceof(FailedPrecondition);
    expect(host.files.size).to.equal(0);
  });

  it('takes the file that the running dockerd reads', async () => {
    host.commandLine = ['/usr/bin/dockerd', '--config-file', '/srv/daemon.json'];
    const { files } = await setUp();
    expect(files.map(({ path }) => path)).to.deep.equal(['/srv/daemon.json']);
  });

  it('userns-remap is refused for a snapshotter; nothing is written when dockerd refuses the result', async () => {
    host.files.set(file, '{"userns-remap":"default"}');
    expect((await refusal())?.message).to.include('userns-remap');
    host.files.set(file, '{"mtu":1}');
    host.code = 1;
    expect((await refusal())?.message).to.include('it says no');
    expect(written()).to.deep.equal({ mtu: 1 });
  });

  it('restarts only when it is told to', async () => {
    expect(await setUp()).to.include({ restarted: false, restart: 'systemctl restart docker' });
    expect(host.ran.join()).not.to.include('systemctl');
    expect((await setUp({ restart: true })).restarted).to.equal(true);
    expect(host.ran.at(-1)).to.equal('systemctl restart docker');
  });

  it('without the program it prints what the newest one needs, and writes nothing without --print', async () => {
    host.major = undefined;
    const { version, files } = await setUp({ print: true });
    expect(version).to.equal(null);
    expect(JSON.parse(files[0]?.text ?? '')).to.include({ 'storage-driver': 'varve' });
    expect(host.files.size).to.equal(0);
    expect(await refusal()).to.be.an.instanceof(NotFound);
  });

  it('a name that the configuration does not have is refused, with those it has', async () => {
    const error = await refusal({ name: 'nas' });
    expect(error?.message).to.equal('the configuration has no snapshotter "nas"; those it has: varve');
  });

  it('a containerd that does not find varve in its new configuration gets nothing', async () => {
    host.major = 2;
    const plan = planContainerd(faces, { ...request, engine: 'containerd' }, host);
    expect(await plan.catch((error: Error) => error.message)).to.include('does not find varve');
  });
});
