import { createServer } from 'node:http';
import { join } from 'node:path';
import { expect } from 'chai';
import { InvalidArgument, Unavailable } from '../../../src/errors/errors.ts';
import { DockerEngine } from '../../../src/host/linux/engine.ts';
import { listenUnix } from '../../../src/host/linux/listen.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

const mountOf = (name: string, driver = 'varve') => ({ Type: 'volume', Name: name, Driver: driver });

/** What the Docker Engine API answers (v1.41), as far as it is read. */
const small: Readonly<Record<string, unknown>> = {
  '/volumes': {
    Volumes: [
      { Name: 'db', Driver: 'varve', Labels: { team: 'a' } },
      { Name: 'bare', Driver: 'varve', Labels: null },
    ],
    Warnings: null,
  },
  '/containers/json': [
    { Id: 'c1'.repeat(32), Names: ['/one'], State: 'running', Mounts: [mountOf('db'), { Type: 'bind' }] },
    { Id: 'c2'.repeat(32), Names: ['/two'], State: 'exited', Mounts: [mountOf('db')] },
    { Id: 'c3'.repeat(32), Names: ['/three'], State: 'running', Mounts: [mountOf('db', 'local')] },
    { Id: 'c4'.repeat(32), Names: ['/four'], State: 'paused', Mounts: [mountOf('bare')] },
  ],
  '/version': { Version: '20.10.24', ApiVersion: '1.41' },
};

describe('DockerEngine', () => {
  let scratch: Scratch;
  let path: string;
  let close: () => Promise<void>;
  let asked: URL[];
  let silent: boolean;
  let answers: Readonly<Record<string, unknown>>;

  beforeEach(async () => {
    scratch = await Scratch.make();
    path = join(scratch.path, 'docker.sock');
    asked = [];
    silent = false;
    answers = small;
    const server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://engine');
      asked.push(url);
      if (silent) return;
      const answer = answers[url.pathname.replace(/^\/v[0-9.]+/, '')];
      response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer ?? { message: 'page not found' }));
    });
    const closeSocket = await listenUnix(server, path, 0o600);
    close = () => {
      server.closeAllConnections();
      return closeSocket();
    };
  });

  afterEach(async () => {
    await close();
    await scratch.remove();
  });

  it('tells the volumes of one driver, their labels and who has them', async () => {
    const volumes = await new DockerEngine(`unix://${path}`).volumes('varve');
    expect(volumes).to.deep.equal([
      {
        name: 'db',
        labels: { team: 'a' },
        containers: [
          { id: 'c1'.repeat(32), name: 'one', running: true },
          { id: 'c2'.repeat(32), name: 'two', running: false },
        ],
      },
      { name: 'bare', labels: {}, containers: [{ id: 'c4'.repeat(32), name: 'four', running: true }] },
    ]);
  });

  it('tells what a container asks of its storage, and that it knows no such container', async () => {
    const [limited, plain] = ['c1'.repeat(32), 'c2'.repeat(32)];
    answers = {
      [`/containers/${limited}/json`]: { HostConfig: { StorageOpt: { size: '10G' } } },
      [`/containers/${plain}/json`]: { HostConfig: { StorageOpt: null } },
    };
    const engine = new DockerEngine(`unix://${path}`);
    expect(await engine.storageOptions(limited)).to.deep.equal({ size: '10G' });
    expect(await engine.storageOptions(plain)).to.deep.equal({});
    expect(await engine.storageOptions('c3'.repeat(32))).to.equal(undefined);
  });

  it('names a container once, however often it mounts the volume', async () => {
    const container = { Id: 'c1', Names: ['/one'], State: 'running', Mounts: [mountOf('db'), mountOf('db')] };
    answers = { ...small, '/containers/json': [container] };
    const [db] = await new DockerEngine(`unix://${path}`).volumes('varve');
    expect(db?.containers).to.deep.equal([{ id: 'c1', name: 'one', running: true }]);
  });

  it('takes time for the volumes and the containers, not for each of the one with each of the other', async () => {
    const numbers = Array.from({ length: 20_000 }, (_, number) => String(number));
    answers = {
      ...small,
      '/volumes': { Volumes: numbers.map(Name => ({ Name, Driver: 'varve', Labels: null })) },
      '/containers/json': numbers.map(Id => ({
        Id,
        Names: [`/${Id}`],
        State: 'running',
        Mounts: [mountOf(Id)],
      })),
    };
    const engine = new DockerEngine(`unix://${path}`);
    await engine.version();
    const before = process.cpuUsage();
    const volumes = await engine.volumes('varve');
    const { user } = process.cpuUsage(before);
    expect(volumes.map(({ containers: [first] }) => first?.id)).to.deep.equal(numbers);
    expect(user).to.be.lessThan(500_000);
  });

  it('asks for all containers, the stopped ones too, and for one driver', async () => {
    await new DockerEngine(`unix://${path}`).volumes('varve');
    const [volumes, containers] = asked.map(url => url.searchParams);
    expect(volumes?.get('filters')).to.equal('{"driver":["varve"]}');
    expect(containers?.get('all')).to.match(/^(true|1)$/);
  });

  it('tells its version', async () => {
    expect(await new DockerEngine(`unix://${path}`).version()).to.equal('Docker Engine 20.10.24');
  });

  it('is Unavailable when nobody listens, and says where', async () => {
    const error = await rejection(new DockerEngine(`unix://${path}.none`).version());
    expect(error).to.be.instanceOf(Unavailable);
    expect(error.message).to.include(`${path}.none`);
  });

  it('is Unavailable when it does not answer in time', async () => {
    silent = true;
    const engine = new DockerEngine(`unix://${path}`, 50);
    expect(await rejection(engine.volumes('varve'))).to.be.instanceOf(Unavailable);
    expect(await rejection(engine.version())).to.be.instanceOf(Unavailable);
  });

  it('refuses an address that it does not understand', () => {
    for (const address of ['', 'docker.sock', 'unix://', 'ssh://host', 'tcp://']) {
      expect(() => new DockerEngine(address), address).to.throw(InvalidArgument);
    }
  });
});
