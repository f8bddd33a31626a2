import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Command } from 'commander';
import { thirdPartyLicenses } from '../../scripts/lib/licenses.ts';
import { repository } from '../../scripts/lib/paths.ts';
import { completionTree } from '../../src/cli/completion/tree.ts';
import { scalarKeys } from '../../src/config/keys.ts';
import { loadConfig } from '../../src/config/load.ts';
import { exitCodes } from '../../src/errors/to-exit-code.ts';

const packaged = (name: string) => join(repository, 'packaging', name);
const text = (name: string) => readFileSync(packaged(name), 'utf8');

/** `Directive=value` lines of a unit, as [directive, value]. */
const directives = (unit: string) =>
  unit.split('\n').flatMap(line => {
    const [, name, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    return name === undefined ? [] : [[name, value ?? ''] as const];
  });

/**
 * Directives that give a service a mount namespace of its own (systemd.exec(5) of systemd 252 to 258). Its mounts would
 * then not reach the engine: containers would write into the empty mount points below.
 */
const makeMountNamespace = new Set([
  ...['RootDirectory', 'RootImage', 'RootEphemeral', 'MountAPIVFS', 'MountImages', 'MountFlags'],
  ...['ExtensionImages', 'ExtensionDirectories', 'BindPaths', 'BindReadOnlyPaths', 'BindLogSockets'],
  ...['ReadWritePaths', 'ReadOnlyPaths', 'InaccessiblePaths', 'ExecPaths', 'NoExecPaths'],
  ...[
    'TemporaryFileSystem',
    'PrivateTmp',
    'PrivateDevices',
    'PrivateMounts',
    'PrivateIPC',
    'IPCNamespacePath',
  ],
  ...[
    'PrivateNetwork',
    'NetworkNamespacePath',
    'PrivateUsers',
    'PrivatePIDs',
    'PrivateBPF',
    'DelegateNamespaces',
  ],
  ...['ProtectSystem', 'ProtectHome', 'ProtectProc', 'ProcSubset', 'ProtectHostname', 'ProtectControlGroups'],
  ...['ProtectKernelTunables', 'ProtectKernelModules', 'ProtectKernelLogs', 'DynamicUser', 'LogNamespace'],
  ...[
    'LoadCredential',
    'LoadCredentialEncrypted',
    'SetCredential',
    'SetCredentialEncrypted',
    'ImportCredential',
  ],
]);

/** Other directives that would break it, and why. */
const harmful: Readonly<Record<string, string>> = {
  RestrictSUIDSGID: 'copies keep setuid bits',
  MemoryDenyWriteExecute: 'V8 writes code and runs it',
  RuntimeDirectory: 'systemd would delete /run/varve at each stop, and with it who uses what',
  DevicePolicy: 'pools need loop devices',
  DeviceAllow: 'it forbids every other device',
  ProtectClock: 'it implies DeviceAllow',
  PartOf: 'a restart of the other unit would restart varve',
  BindsTo: 'a stop of the other unit would stop varve',
};

/** What is wrong with a service. */
function problems(unit: string): readonly string[] {
  return directives(unit).flatMap(([name, value]) => {
    if (makeMountNamespace.has(name)) return [`${name}= makes a mount namespace`];
    if (harmful[name] !== undefined) return [`${name}=: ${harmful[name]}`];
    const ties = /^(Requires|Requisite|Wants|Upholds|After)$/.test(name) && /docker|containerd/.test(value);
    return ties ? [`${name}=${value} ties varve to the engine`] : [];
  });
}

describe('the packaging', () => {
  const service = text('systemd/varve.service');
  const socket = text('systemd/varve.socket');
  const settingOf = (unit: string, name: string) =>
    directives(unit)
      .filter(([directive]) => directive === name)
      .map(([, value]) => value)
      .join(' ');

  it('the service has no mount namespace of its own and does not depend on the engine', () => {
    expect(problems(service)).to.deep.equal([]);
    for (const planted of [
      'PrivateTmp=yes',
      'ProtectSystem=full',
      'RuntimeDirectory=varve',
      'Requires=docker.service',
    ])
      expect(problems(`${service}\n${planted}`), planted).to.have.lengthOf(1);
  });

  it('a stop of the service leaves the processes that serve unions to containers', () => {
    expect(settingOf(service, 'KillMode')).to.equal('process');
  });

  it('service and socket start before the engine, which waits on the socket', () => {
    for (const unit of [service, socket]) expect(settingOf(unit, 'Before')).to.equal('docker.service');
    expect(settingOf(socket, 'WantedBy').split(' ')).to.include.members(['sockets.target', 'docker.service']);
    const { config } = loadConfig({ environment: {}, configFile: packaged('debian/config.yaml') });
    expect(settingOf(socket, 'ListenStream')).to.equal(config.drivers['varve']?.socket);
    expect(settingOf(socket, 'FileDescriptorName')).to.equal('varve');
  });

  it('the settings that are installed change nothing, and show every key with its default', () => {
    const shipped = loadConfig({ environment: {}, configFile: packaged('debian/config.yaml') });
    const none = loadConfig({ environment: {}, defaultFile: '/nonexistent' });
    expect(shipped.config).to.deep.equal(none.config);

    const settings = uncommented(text('debian/config.yaml'));
    const directory = mkdtempSync(join(tmpdir(), 'varve-config-'));
    try {
      const file = join(directory, 'config.yaml');
      writeFileSync(file, settings);
      const { config, entries } = loadConfig({ environment: {}, configFile: file });
      const examples = { pools: config.pools, drivers: config.drivers };
      expect(config).to.deep.equal({ ...none.config, ...examples });
      const given = entries.filter(({ source }) => source.startsWith(file)).map(({ key }) => key);
      const expected = scalarKeys.map(({ key }) => key).filter(key => key !== 'managed');
      expect(given).to.include.members([...expected, 'pools.nas.path', 'drivers.nas.pool']);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('a licence that stands in a source is among the licences', async () => {
    const texts = await thirdPartyLicenses(['@bufbuild/protobuf']);
    expect(texts).to.include('Copyright 2008 Google Inc.').and.include('EVEN IF ADVISED OF THE POSSIBILITY');
  });

  it('the manual names every command and exit code', async () => {
    const manual = text('debian/varve.8').replaceAll('\\', '');
    const leaves = completionTree(await wholeProgram()).filter(({ subcommands }) => subcommands.length === 0);
    for (const { path } of leaves) expect(manual).to.match(new RegExp(`^\\.(B|BI|BR) "?${path}\\b`, 'm'));
    for (const { code, meaning } of Object.values(exitCodes))
      expect(manual).to.include(`.B ${code}\n${meaning}.\n`);
  });
});

/** With everything switched on that stands behind a `#`; sentences start with `# `. */
function uncommented(yaml: string): string {
  return yaml.replaceAll(/^#(?! \S)/gm, '');
}

async function wholeProgram(): Promise<Command> {
  const others = ['status', 'doctor', 'config', 'state', 'completion'];
  const program = new Command('varve');
  for (const path of ['daemon', 'volume', 'layer/layer', ...others]) {
    const module = (await import(`../../src/cli/commands/${path}.ts`)) as Record<
      string,
      (to: Command) => void
    >;
    module[`${path.replace(/.*\//, '')}Command`]?.(program);
  }
  return program;
}
