import { expect } from 'chai';
import { Unavailable } from '../../../src/errors/errors.ts';
import type { Logger } from '../../../src/lib/log.ts';
import { pluginApp } from '../../../src/servers/docker/volume-driver.ts';
import { type Answer, request, type Served, serveApp } from '../../support/raw-client.ts';
import { type Daemon, Host, isMounted, runContainer, volumeName } from '../../support/world.ts';

const silent = { error() {}, warn() {}, info() {}, debug() {} } as unknown as Logger;
const ID = 'f'.repeat(64);
const methods = ['Create', 'Remove', 'Mount', 'Unmount', 'Path', 'Get'] as const;

describe('the plugin socket', () => {
  let host: Host;
  let daemon: Daemon;
  let served: Served;
  let activations: number;

  async function serve(
    ready = Promise.resolve(),
    ofPlugin: Partial<Parameters<typeof pluginApp>[0]> = {},
  ): Promise<Served> {
    activations = 0;
    return await serveApp(
      pluginApp({
        ...daemon,
        ready,
        peerPid: () => undefined,
        onPeer: () => {},
        onActivate: () => {
          activations += 1;
        },
        debug: false,
        managed: false,
        log: silent,
        ...ofPlugin,
      }),
    );
  }

  beforeEach(async () => {
    host = new Host();
    daemon = await host.start();
    served = await serve();
  });

  afterEach(() => served.close());

  const call = (method: string, body?: unknown) => served.post(`/VolumeDriver.${method}`, body);
  const ok = (body: unknown): Answer => ({ status: 200, body });
  const errorOf = (answer: Answer): string => {
    expect(answer?.status).to.equal(500);
    const { Err, ...rest } = (answer ?? { body: {} }).body as { Err: string };
    expect(rest).to.deep.equal({});
    return Err;
  };

  it('S13 answers the eight calls and the handshake', async () => {
    expect(await served.post('/Plugin.Activate')).to.deep.equal(ok({ Implements: ['VolumeDriver'] }));
    expect(activations).to.equal(1);
    expect(await call('Capabilities', {})).to.deep.equal(ok({ Capabilities: { Scope: 'local' } }));
    expect(await call('Create', { Name: 'db', Opts: { mode: '0700' } })).to.deep.equal(ok({}));
    expect(await call('List', {})).to.deep.equal(ok({ Volumes: [{ Name: 'db', Mountpoint: '' }] }));
    expect(await call('Path', { Name: 'db' })).to.deep.equal(ok({ Mountpoint: '' }));
    const Mountpoint = '/varve/mnt/default-1';
    expect(await call('Mount', { Name: 'db', ID })).to.deep.equal(ok({ Mountpoint }));
    expect(await call('Path', { Name: 'db' })).to.deep.equal(ok({ Mountpoint }));
    expect(await call('List')).to.deep.equal(ok({ Volumes: [{ Name: 'db', Mountpoint }] }));
    expect(await call('Unmount', { Name: 'db', ID })).to.deep.equal(ok({}));
    expect(await isMounted(host)).to.equal(false);
    expect(await call('Remove', { Name: 'db' })).to.deep.equal(ok({}));
    expect(await call('List', {})).to.deep.equal(ok({ Volumes: [] }));
  });

  it('S13 Get tells what a person wants to know, and a time that engines can read', async () => {
    await call('Create', { Name: 'db', Opts: null });
    const answer = await call('Get', { Name: 'db' });
    const { Volume } = (answer ?? { body: {} }).body as { Volume: Record<string, unknown> };
    expect(Volume).to.include({ Name: 'db', Mountpoint: '' });
    expect(Volume['CreatedAt']).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
    expect(Volume['Status']).to.deep.equal({
      pool: 'default',
      phase: 'Ready',
      health: 'ok',
      used: 'not measured yet',
      usedBytes: null,
      inodes: null,
      measuredAt: null,
      limit: 'none',
      consumers: 0,
      protected: false,
    });
  });

  it('S14 takes an option with an empty value as not given, and Opts null as none', async () => {
    expect(await call('Create', { Name: 'a', Opts: null })).to.deep.equal(ok({}));
    expect(await call('Create', { Name: 'a' })).to.deep.equal(ok({}));
    expect(await call('Create', { Name: 'a', Opts: { mode: '', diskid: '' } })).to.deep.equal(ok({}));
  });

  for (const [what, headers] of [
    ['no Content-Type', []],
    ['a foreign Content-Type', ['Content-Type: text/plain; charset=utf-8']],
    ['the Accept header of dockerd', ['Accept: application/vnd.docker.plugins.v1.2+json']],
  ] as const) {
    it(`reads a request with ${what} and an empty Host`, async () => {
      const text = request('POST', '/VolumeDriver.Create', '{"Name":"db","Opts":null}\n', headers);
      expect(await served.raw(text)).to.deep.equal(ok({}));
    });
  }

  for (const method of methods) {
    it(`an empty ${method}, as a repeated request is, is refused, and changes nothing`, async () => {
      await call('Create', { Name: 'db' });
      await call('Mount', { Name: 'db', ID });
      runContainer(host, 7);
      const before = [host.memory.paths(), await host.store.revision(), await host.bootStore.revision()];
      const answers = [
        await call(method),
        await served.raw(request('POST', `/VolumeDriver.${method}`, '  \n')),
      ];
      // An empty Get does not even say of which volume: an error would tell the engine that one is gone.
      if (method === 'Get') expect(answers).to.deep.equal([undefined, undefined]);
      else for (const answer of answers) expect(errorOf(answer)).to.contain('the volume name is missing');
      expect([
        host.memory.paths(),
        await host.store.revision(),
        await host.bootStore.revision(),
      ]).to.deep.equal(before);
      expect(await isMounted(host)).to.equal(true);
    });

    it(`${method} refuses a body that is no JSON object`, async () => {
      for (const body of ['{', 'null', '[]', '["db"]', '"db"', '7', '{"Name":"db"', '\0']) {
        const answer = await served.raw(request('POST', `/VolumeDriver.${method}`, body));
        expect(errorOf(answer), body).to.contain('is not a JSON object');
      }
    });

    it(`${method} refuses a name that is none`, async () => {
      for (const Name of ['..', 'a/b', '../../etc', '', ' ', 'ünï', 'a'.repeat(300), 7, null, {}, ['db']]) {
        expect(errorOf(await call(method, { Name, ID, Opts: {} })), JSON.stringify(Name)).to.contain(
          'volume name',
        );
      }
    });
  }

  for (const method of ['Mount', 'Unmount']) {
    it(`${method} refuses an id that is none`, async () => {
      await call('Create', { Name: 'db' });
      for (const id of [undefined, '', 'a b', 7, 'x'.repeat(256)]) {
        expect(errorOf(await call(method, { Name: 'db', ID: id }))).to.contain('mount id');
      }
      expect(await isMounted(host)).to.equal(false);
    });
  }

  for (const Opts of [[], ['a'], 'size=1', 7, { mode: 7 }, { mode: null }, { mode: ['0700'] }]) {
    it(`Create refuses the options ${JSON.stringify(Opts)}`, async () => {
      expect(errorOf(await call('Create', { Name: 'db', Opts }))).to.match(/Opts|option|is not/);
      expect(daemon.catalog.all()).to.deep.equal([]);
    });
  }

  it('Create names the option that was meant, and -o help explains them all', async () => {
    expect(errorOf(await call('Create', { Name: 'db', Opts: { siez: '1g' } }))).to.contain(
      'did you mean "size"',
    );
    expect(errorOf(await call('Create', { Name: 'db', Opts: { help: '' } }))).to.contain(
      'the options of a varve',
    );
  });

  it('refuses a body of 2 MB, and goes on', async () => {
    const body = JSON.stringify({ Name: 'db', Opts: { mode: 'x'.repeat(2 << 20) } });
    const answer = await served.raw(request('POST', '/VolumeDriver.Create', body));
    if (answer !== undefined) expect(errorOf(answer)).to.contain('the request cannot be read');
    expect(await call('Create', { Name: 'db' })).to.deep.equal(ok({}));
  });

  it('refuses what it has no call for, as an error that engines understand', async () => {
    expect(errorOf(await call('Snapshot', {}))).to.contain('varve has no POST "/VolumeDriver.Snapshot"');
    expect(errorOf(await served.raw(request('GET', '/VolumeDriver.List')))).to.contain('varve has no GET');
    expect(errorOf(await served.raw(request('POST', '/')))).to.contain('varve has no POST "/"');
    expect(errorOf(await served.raw(request('POST', '/%')))).to.contain('varve has no POST');
    const zipped = request('POST', '/VolumeDriver.List', 'x', ['Content-Encoding: zip']);
    expect(errorOf(await served.raw(zipped))).to.contain('the request cannot be read');
  });

  it('S12 shows an engine only the volumes of its driver', async () => {
    await daemon.service.create(
      volumeName('other'),
      { ...daemon.driver, name: 'nas' as typeof daemon.driver.name },
      {},
    );
    expect(await call('List', {})).to.deep.equal(ok({ Volumes: [] }));
    for (const method of ['Get', 'Path', 'Remove', 'Mount', 'Unmount']) {
      expect(errorOf(await call(method, { Name: 'other', ID }))).to.equal('no such volume: other');
    }
    expect(errorOf(await call('Create', { Name: 'other' }))).to.contain('exists already, of driver nas');
  });

  it('S13 tells of a volume that does not exist that it does not', async () => {
    for (const method of ['Get', 'Path', 'Remove', 'Mount', 'Unmount']) {
      expect(errorOf(await call(method, { Name: 'none', ID }))).to.equal('no such volume: none');
    }
  });

  it('holds requests until the state is loaded', async () => {
    await served.close();
    const ready = Promise.withResolvers<void>();
    served = await serve(ready.promise);
    let isAnswered = false;
    const answer = call('Get', { Name: 'db' }).finally(() => {
      isAnswered = true;
    });
    await daemon.service.create(volumeName('db'), daemon.driver, {});
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(isAnswered).to.equal(false);
    ready.resolve();
    expect((await answer)?.status).to.equal(200);
  });

  it('drops the connection of a Get that it cannot answer, and only of a Get', async () => {
    await call('Create', { Name: 'db' });
    const { volume } = daemon.inventory;
    daemon.inventory.volume = () => {
      throw new Unavailable('not now');
    };
    expect(await call('Get', { Name: 'db' })).to.equal(undefined);
    expect(errorOf(await call('Path', { Name: 'db' }))).to.equal('not now');
    daemon.inventory.volume = volume;
    expect((await call('Get', { Name: 'db' }))?.status).to.equal(200);
  });

  it('S12 takes calls of another process for a new engine where no handshake comes, and only there', async () => {
    const processes = [7, 7, 8, undefined, 8];
    const mount = { Name: 'db', ID };
    await call('Create', { Name: 'db' });
    await call('Mount', mount);
    const isConfirmed = () => daemon.inventory.volume(volumeName('db')).consumers[0]?.confirmed;
    await served.close();
    served = await serve(undefined, { managed: true, peerPid: () => processes.shift() });
    expect(isConfirmed()).to.equal(true);
    const counts = [];
    for (const _ of [...processes]) {
      await call('Capabilities');
      counts.push(activations);
    }
    expect(counts).to.deep.equal([1, 1, 2, 2, 2]);
    expect(isConfirmed()).to.equal(false);

    await served.close();
    const others = [1, 2];
    served = await serve(undefined, { peerPid: () => others.shift() });
    await call('Capabilities');
    await call('Capabilities');
    expect(activations).to.equal(0);
  });

  it('debug logs each request with its answer, and the stack of a failure', async () => {
    await served.close();
    const lines: string[] = [];
    const log = { ...silent, debug: (text: string) => lines.push(text) } as unknown as Logger;
    served = await serve(undefined, { debug: true, log });
    await call('Create', { Name: 'db' });
    await call('Path', { Name: 'other' });
    await call('Create', { Name: 'x', Opts: { password: 'hunter2' } });
    expect(lines.pop()).to.match(/^VolumeDriver.Create {"Name":"x","Opts":\["password"\]}: /);
    expect(lines).to.have.length(2);
    expect(lines[0]).to.match(/^VolumeDriver.Create {"Name":"db"}: {} \(\d+\.\d ms\)$/);
    expect(lines[1]).to.match(/^VolumeDriver.Path {"Name":"other"}: Error: no such volume: other\n +at /);
  });

  it('serves several requests on one connection', async () => {
    const one = request('POST', '/VolumeDriver.Create', '{"Name":"a"}').replace('Connection: close\r\n', '');
    const answer = await served.raw(one + request('POST', '/VolumeDriver.Create', '{"Name":"b"}'));
    expect(answer?.status).to.equal(200);
    expect(daemon.inventory.volumes().map(({ name }) => name)).to.deep.equal(['a', 'b']);
  });
});
