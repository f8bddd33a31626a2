import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { type RequestOptions, request as tlsRequest } from 'node:https';
import { join } from 'node:path';
import { expect } from 'chai';
import { varveScript } from '../../../scripts/lib/paths.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { type Certificate, makeAuthority } from '../../support/certificates.ts';
import { connections } from '../../support/connections.ts';
import { docker, inContainer, refused } from '../../support/containers.ts';
import { post, startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { onFirstEngine, startEngine, type TestEngine } from '../../support/engine.ts';
import { freePort } from '../../support/free-port.ts';
import { holdSocket } from '../../support/held-socket.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';
import { skip } from '../../support/skip.ts';

/** Where engines look for descriptions of plugins (moby, pkg/plugins/discovery_unix.go). */
const specDirectories = { spec: '/etc/docker/plugins', json: '/usr/lib/docker/plugins' };

/** Files that were put where engines look, and directories that were made for them. */
class Specs {
  readonly #files: string[] = [];
  readonly #directories = new Set<string>();

  write(kind: keyof typeof specDirectories, name: string, text: string): void {
    const directory = specDirectories[kind];
    for (let path = directory; !existsSync(path); path = join(path, '..')) this.#directories.add(path);
    mkdirSync(directory, { recursive: true });
    const file = join(directory, `${name}.${kind}`);
    writeFileSync(file, text, { flag: 'wx' });
    this.#files.push(file);
  }

  remove(): void {
    for (const file of this.#files) rmSync(file, { force: true });
    for (const directory of this.#directories) {
      try {
        rmdirSync(directory);
      } catch {
        // Somebody else keeps something there.
      }
    }
  }
}

/** One request over TLS, as dockerd sends it. */
function postTls(port: number, method: string, options: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const where = { host: '127.0.0.1', port, path: `/${method}`, method: 'POST', timeout: 10_000 };
    const call = tlsRequest({ ...where, ...options, agent: false }, response => {
      let text = '';
      response.on('data', (part: Buffer) => {
        text += part.toString();
      });
      response.on('end', () => resolve(text));
      response.on('error', reject);
    });
    call.on('timeout', () => call.destroy(new Error('no answer')));
    call.on('error', reject);
    call.end();
  });
}

describe('how engines find varve', function () {
  this.timeout(60_000);
  const names = {
    spec: `vtspec${process.pid}`,
    tcp: `vttcp${process.pid}`,
    tls: `vttls${process.pid}`,
    nas: `vtnas${process.pid}`,
  };
  const specs = new Specs();
  const ports = { tcp: 0, tls: 0 };
  let scratch: Scratch;
  let server: Certificate;
  let client: Certificate;
  let stranger: Certificate;
  let daemon: TestDaemon;
  let engine: TestEngine;

  before(async () => {
    scratch = await Scratch.make();
    const authority = await makeAuthority(scratch.path, 'ours');
    [server, client] = [await authority.server('server'), await authority.client('client')];
    stranger = await (await makeAuthority(scratch.path, 'other')).client('stranger');
    [ports.tcp, ports.tls] = [await freePort(), await freePort()];
    const socketOf = (name: string) => join(scratch.path, `${name}.sock`);
    const drivers = {
      [names.spec]: { socket: socketOf(names.spec) },
      [names.tcp]: {
        socket: socketOf(names.tcp),
        tcp: { address: `127.0.0.1:${ports.tcp}`, insecure: true },
      },
      [names.tls]: {
        socket: socketOf(names.tls),
        tcp: { address: `127.0.0.1:${ports.tls}`, tls: { ...server } },
      },
      [names.nas]: { pool: 'nas', options: { mode: '0770' } },
    };
    daemon = await startDaemon({
      config: { drivers, pools: { nas: { path: join(scratch.path, 'nas') } } },
    });
    specs.write('spec', names.spec, `unix://${socketOf(names.spec)}\n`);
    specs.write('spec', names.tcp, `tcp://127.0.0.1:${ports.tcp}\n`);
    const TLSConfig = { CAFile: client.caFile, CertFile: client.certFile, KeyFile: client.keyFile };
    const json = { Name: names.tls, Addr: `https://127.0.0.1:${ports.tls}`, TLSConfig };
    specs.write('json', names.tls, JSON.stringify(json));
    engine = await startEngine();
  });
  after(async () => {
    specs.remove();
    await engine?.stop();
    await daemon?.dispose();
    rmSync(`/run/docker/plugins/${names.nas}.sock`, { force: true });
    await scratch?.remove();
  });

  const create = (driver: string, name: string) => docker(engine, 'volume', 'create', '-d', driver, name);
  const inspect = (format: string, name: string) =>
    docker(engine, 'volume', 'inspect', '--format', format, name);

  const ways = [
    ['a .sock in /run/docker/plugins', () => daemon.driver],
    ['a .spec in /etc/docker/plugins, unix://', () => names.spec],
    ['a .spec in /etc/docker/plugins, tcp:// without TLS where the configuration allows it', () => names.tcp],
    ['a .json in /usr/lib/docker/plugins, TLS with certificates on both sides', () => names.tls],
  ] as const;
  for (const [way, driver] of ways) {
    it(`S12 by ${way}: create, use, list, remove`, async () => {
      const name = `by-${driver()}`;
      await create(driver(), name);
      await inContainer(engine, ['-v', `${name}:/data`], 'echo kept > /data/a');
      expect(await inContainer(engine, ['-v', `${name}:/data`], 'cat /data/a')).to.equal('kept');
      const filter = `driver=${driver()}`;
      expect(await docker(engine, 'volume', 'ls', '--quiet', '--filter', filter)).to.equal(name);
      await docker(engine, 'volume', 'rm', name);
      expect(await docker(engine, 'volume', 'ls', '--quiet', '--filter', filter)).to.equal('');
    });
  }

  onFirstEngine(() => {
    describe('S12 TLS', () => {
      const ca = () => readFileSync(server.caFile);
      const pair = ({ certFile, keyFile }: Certificate) => ({
        cert: readFileSync(certFile),
        key: readFileSync(keyFile),
      });

      it('S12 a client whose certificate the authority signed is answered', async () => {
        const answer = await postTls(ports.tls, 'Plugin.Activate', { ca: ca(), ...pair(client) });
        expect(JSON.parse(answer)).to.deep.equal({ Implements: ['VolumeDriver'] });
      });

      it('S12 a client without a certificate is refused', async () => {
        const error = await rejection(postTls(ports.tls, 'Plugin.Activate', { ca: ca() }));
        expect(error.message).to.match(/certificate required|ECONNRESET|socket hang up/i);
      });

      it('S12 a client whose certificate somebody else signed is refused', async () => {
        const error = await rejection(postTls(ports.tls, 'Plugin.Activate', { ca: ca(), ...pair(stranger) }));
        expect(error.message).to.match(/unknown ca|ECONNRESET|socket hang up/i);
      });

      it('S12 a client that does not speak TLS is refused', async () => {
        const call = request({
          host: '127.0.0.1',
          port: ports.tls,
          path: '/Plugin.Activate',
          method: 'POST',
        });
        const outcome = new Promise<string>(resolve => {
          call.on('response', ({ statusCode }) => resolve(`status ${statusCode}`));
          call.on('error', ({ message }) => resolve(message));
        });
        call.end();
        expect(await outcome).not.to.equal('status 200');
      });
    });

    describe('S12 what the configuration refuses', () => {
      const refusals = [
        ['tcp without tls', { address: '127.0.0.1:1' }, /has no tls.*insecure: true/],
        [
          'tcp without tls where other hosts reach it',
          { address: '0.0.0.0:1', insecure: true },
          /without TLS, where other hosts could delete every volume/,
        ],
      ] as const;
      for (const [what, tcp, message] of refusals) {
        it(`S12 ${what}, before any socket is bound`, async () => {
          const name = `vtnone${process.pid}`;
          const other = await startDaemon({ start: false, config: { drivers: { [name]: { tcp } } } });
          try {
            const { exitCode, stderr } = await other.varve('daemon');
            expect(stderr).to.match(message);
            expect(exitCode).to.equal(2);
            expect(existsSync(other.socket)).to.equal(false);
            expect(existsSync(other.adminSocket)).to.equal(false);
          } finally {
            await other.dispose();
          }
        });
      }
    });
  });

  describe('S12 several drivers on one host', () => {
    it('S12 each has its own socket, pool and defaults', async () => {
      await create(names.nas, 'scans');
      await create(daemon.driver, 'db');
      expect(await inspect('{{.Driver}} {{.Status.pool}}', 'scans')).to.equal(`${names.nas} nas`);
      expect(await inspect('{{.Driver}} {{.Status.pool}}', 'db')).to.equal(`${daemon.driver} default`);
      const modeOf = (name: string) => inContainer(engine, ['-v', `${name}:/data`], 'stat -c %a /data');
      expect(await modeOf('scans')).to.equal('770');
      expect(await modeOf('db')).to.equal('755');
      expect(existsSync(join(scratch.path, 'nas/pool.json'))).to.equal(true);
    });

    it('S12 an option of the caller is stronger than the default of the driver', async () => {
      await docker(engine, 'volume', 'create', '-d', names.nas, '-o', 'mode=0711', 'open');
      expect(await inContainer(engine, ['-v', 'open:/data'], 'stat -c %a /data')).to.equal('711');
    });

    it('S12 neither lists or finds the volumes of the other', async () => {
      const socket = `/run/docker/plugins/${names.nas}.sock`;
      const { body } = await post(socket, 'VolumeDriver.List', {});
      const listed = (body as { Volumes: { Name: string }[] }).Volumes.map(({ Name }) => Name);
      expect(listed).to.have.members(['scans', 'open']);
      const answer = await post(socket, 'VolumeDriver.Get', { Name: 'db' });
      expect(answer).to.deep.equal({ status: 500, body: { Err: 'no such volume: db' } });
    });

    it('S12 a name that a volume of one driver has is refused to the other', async () => {
      const answer = await daemon.plugin('VolumeDriver.Create', { Name: 'scans', Opts: {} });
      expect(answer.status).to.equal(500);
      expect((answer.body as { Err: string }).Err).to.include(`exists already, of driver ${names.nas}`);
      const said = await refused(engine, 'volume', 'create', '-d', daemon.driver, 'scans');
      expect(said).to.match(/must be unique|exists already/);
      expect(await inspect('{{.Driver}}', 'scans')).to.equal(names.nas);
    });

    it('S12 Remove through the wrong driver is refused, and removes nothing', async () => {
      const answer = await daemon.plugin('VolumeDriver.Remove', { Name: 'scans' });
      expect(answer).to.deep.equal({ status: 500, body: { Err: 'no such volume: scans' } });
      expect(await inspect('{{.Driver}}', 'scans')).to.equal(names.nas);
    });
  });

  describe('S12 a socket that systemd passes', () => {
    let other: TestDaemon;
    beforeEach(async () => {
      other = await startDaemon({ start: false });
    });
    afterEach(() => other.dispose());

    const start = (fd: number) => other.start({ passed: { [other.driver]: fd } });

    it('S12 a request that was queued before the daemon runs is answered when it starts', async () => {
      const held = holdSocket(other.socket);
      try {
        const queued = docker(engine, 'volume', 'create', '-d', other.driver, 'queued');
        await until('the engine to connect', 20_000, () => connections(other.socket) > 0);
        await start(held.fd);
        expect(await queued).to.equal('queued');
        expect((await other.varve('status')).stdout).to.include(`systemd socket ${other.driver}`);
      } finally {
        await other.stop();
        held.close();
      }
    });

    it('S12 the socket stays when the daemon ends, and the next start serves it', async () => {
      const held = holdSocket(other.socket);
      try {
        await start(held.fd);
        expect((await other.plugin('VolumeDriver.Create', { Name: 'v', Opts: null })).status).to.equal(200);
        const { ino } = lstatSync(other.socket);
        await other.stop();
        expect(lstatSync(other.socket).ino).to.equal(ino);
        const queued = other.plugin('VolumeDriver.List', {});
        await start(held.fd);
        expect((await queued).body).to.deep.equal({ Volumes: [{ Name: 'v', Mountpoint: '' }] });
      } finally {
        await other.stop();
        held.close();
      }
    });

    it('S12 systemd-socket-activate starts it at the first request', async function () {
      if (!existsSync('/usr/bin/systemd-socket-activate'))
        skip(this, 'systemd-socket-activate is not installed');
      const words = [
        process.execPath,
        varveScript,
        'daemon',
        '--config',
        join(other.directory, 'config.yaml'),
      ];
      const args = [`--listen=${other.socket}`, `--fdname=${other.driver}`, ...words];
      const child = spawn('systemd-socket-activate', args, { stdio: ['ignore', 'ignore', 'ignore'] });
      try {
        await until('systemd-socket-activate to listen', 10_000, () => existsSync(other.socket));
        const { body } = await other.plugin('Plugin.Activate');
        expect(body).to.deep.equal({ Implements: ['VolumeDriver'] });
      } finally {
        child.kill('SIGTERM');
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      }
      expect(statSync(other.socket).isSocket()).to.equal(true);
    });

    it('S12 a passed socket that no driver has ends the daemon with its name', async () => {
      const held = holdSocket(join(other.directory, 'odd.sock'));
      try {
        const error = await rejection(other.start({ passed: { odd: held.fd } }));
        expect(error.message).to.include(
          'systemd passed a socket named odd, which no driver or snapshotter has',
        );
        expect((await other.ended()).code).to.equal(2);
        expect(existsSync(other.socket)).to.equal(false);
      } finally {
        held.close();
      }
    });
  });
});
