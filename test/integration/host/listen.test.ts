import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { AlreadyExists, FailedPrecondition, InvalidArgument } from '../../../src/errors/errors.ts';
import { listenFd, listenTcp, listenUnix } from '../../../src/host/linux/listen.ts';
import { peerPid } from '../../../src/host/linux/peer.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

describe('a unix socket', () => {
  let scratch: Scratch;
  let path: string;

  beforeEach(async () => {
    scratch = await Scratch.make();
    path = join(scratch.path, 'run/varve/x.sock');
  });

  afterEach(() => scratch.remove());

  it('is made with its directory and exactly the mode that was asked for', async () => {
    const close = await listenUnix(createServer(), path, 0o660);
    expect((await lstat(path)).mode & 0o777).to.equal(0o660);
    expect(await readdir(dirname(path))).to.deep.equal(['x.sock']);
    await greeting(path);
    await close();
    expect(await readdir(dirname(path))).to.deep.equal([]);
  });

  it('is not taken from a live owner', async () => {
    const close = await listenUnix(createServer(), path, 0o600);
    const server = createServer();
    const error = await rejection(listenUnix(server, path, 0o600));
    expect(error).to.be.instanceOf(AlreadyExists);
    expect(error.message).to.include(path);
    expect(server.listening).to.equal(false);
    await greeting(path);
    await close();
  });

  it('is replaced when its owner is dead', async () => {
    await mkdir(dirname(path), { recursive: true });
    await leaveStaleSocket(path);
    await leaveStaleSocket(join(dirname(path), 'x.soc~'));
    const close = await listenUnix(createServer(), path, 0o600);
    await greeting(path);
    await close();
    expect(await readdir(dirname(path))).to.deep.equal([]);
  });

  it('is not made over a file that is something else', async () => {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, 'mine');
    expect(await rejection(listenUnix(createServer(), path, 0o600))).to.be.instanceOf(FailedPrecondition);
  });

  it('of a successor survives the end of the first', async () => {
    const closeFirst = await listenUnix(createServer(), path, 0o600);
    await rename(path, `${path}.old`);
    const closeSecond = await listenUnix(createServer(), path, 0o600);
    await closeFirst();
    await greeting(path);
    await closeSecond();
  });

  it('may be as long as an address of the kernel, and no longer', async () => {
    const longest = join(scratch.path, 'x'.repeat(106 - scratch.path.length));
    await (await listenUnix(createServer(), longest, 0o600))();
    expect(await rejection(listenUnix(createServer(), `${longest}x`, 0o600))).to.be.instanceOf(
      InvalidArgument,
    );
  });

  it('that is passed as a descriptor is served, and stays when the server ends', async () => {
    await mkdir(dirname(path), { recursive: true });
    const module = new URL('../../../src/host/linux/listen.ts', import.meta.url).href;
    const script = `import { createServer } from 'node:net';
      import { listenFd } from ${JSON.stringify(module)};
      const server = createServer(socket => socket.end('passed', () => close().then(() => console.log('closed'))));
      const close = await listenFd(server, 3);`;
    const { output } = await runWithSocket(path, script);
    const client = connect(path);
    const [text] = await once(client, 'data');
    expect(String(text)).to.equal('passed');
    expect(await output).to.equal('closed\n');
    expect((await lstat(path)).isSocket()).to.equal(true);
  });

  it('is not served from a descriptor that is none', async () => {
    expect(await rejection(listenFd(createServer(), 999))).to.have.property('code');
  });
});

describe('listenTcp', () => {
  it('serves the address, and refuses one that is in use or unintelligible', async () => {
    const server = createServer();
    const close = await listenTcp(server, '127.0.0.1:0');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    const taken = `127.0.0.1:${address.port}`;
    expect(await rejection(listenTcp(createServer(), taken))).to.be.instanceOf(AlreadyExists);
    expect(await rejection(listenTcp(createServer(), 'nonsense'))).to.be.instanceOf(InvalidArgument);
    await close();
  });
});

describe('peerPid', () => {
  it('is the process that connected, and undefined on TCP and after the end', async () => {
    const scratch = await Scratch.make();
    const path = join(scratch.path, 'x.sock');
    const server = createServer();
    const close = await listenUnix(server, path, 0o600);
    const script = `require('node:net').connect(${JSON.stringify(path)}).on('close', () => process.exit())`;
    const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
    const [socket] = (await once(server, 'connection')) as [Socket];
    expect(peerPid(socket)).to.equal(child.pid);
    socket.destroy();
    expect(peerPid(socket)).to.equal(undefined);
    await once(child, 'exit');
    await close();
    await scratch.remove();
  });

  it('is undefined on TCP', async () => {
    const server = createServer();
    const close = await listenTcp(server, '127.0.0.1:0');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    const client = connect(address.port, '127.0.0.1');
    const [socket] = (await once(server, 'connection')) as [Socket];
    expect(peerPid(socket)).to.equal(undefined);
    client.destroy();
    socket.destroy();
    await close();
  });
});

/** Connects, which only a listening socket lets happen. */
async function greeting(path: string): Promise<void> {
  const client = connect(path);
  await once(client, 'connect');
  client.destroy();
}

/**
 * Runs a script in Node with a listening socket as descriptor 3, as systemd would; who bound it is gone.
 * @returns what the script has printed when it has ended
 */
async function runWithSocket(path: string, script: string): Promise<{ readonly output: Promise<string> }> {
  const binder = `const server = require('node:net').createServer();
    server.listen(process.argv[1], () => {
      const stdio = ['ignore', 'inherit', 'inherit', server._handle.fd];
      require('node:child_process').spawn(process.execPath, process.argv.slice(2), { stdio });
      process.kill(process.pid, 'SIGKILL');
    });`;
  const words = ['-e', binder, path, '--input-type=module', '-e', script];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const output = child.stdout.setEncoding('utf8').toArray();
  await once(child, 'exit');
  return { output: output.then(parts => parts.join('')) };
}

/** What a killed process leaves: a socket without a listener. */
async function leaveStaleSocket(path: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script], { stdio: 'ignore' }), 'exit');
  expect((await lstat(path)).isSocket()).to.equal(true);
}
