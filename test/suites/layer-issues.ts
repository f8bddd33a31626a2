import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { chmod, directory, file, hardLink, remove } from '../support/layer-tree.ts';
import {
  commit,
  contents,
  flat,
  type LayerExceptions,
  type MountingWorld,
  namesIn,
  prepare,
  withMount,
} from '../support/layer-world.ts';

/** Listens on a unix socket, connects to it, and closes both ends; the socket's file stays. */
async function speak(path: string): Promise<string> {
  const server = createServer(socket => socket.end('hello'));
  server.listen(path);
  await once(server, 'listening');
  const socket = connect(path);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  await new Promise(resolve => server.close(resolve));
  return answer.toString();
}

/** The seven cases that containerd's suite lists as issues to test (core/snapshots/testsuite/issues.go) and lacks. */
export function layerIssueSuite(open: () => Promise<MountingWorld>, exceptions: LayerExceptions): void {
  let world: MountingWorld;

  beforeEach(async () => {
    world = await open();
    await commit(world, 'base', undefined, [
      ...[directory('/dir/below'), file('/dir/file', 'old'), hardLink('/dir/file', '/dir/link')],
      ...[file('/secret', 'secret', 0o600), directory('/var')],
    ]);
  });

  afterEach(() => world.close());

  it('RemoveAfterCommit (docker#24309): all of a layer goes, right after its commit too', async () => {
    const { store } = world;
    const before = readdirSync(world.root);
    await prepare(world, 'key', { parent: 'base' }, [file('/big', Buffer.alloc(100_000, 1))]);
    await store.commit('name', 'key');
    await store.remove('name');
    await store.prepare('key', { parent: 'base' });
    await store.remove('key');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
    expect(readdirSync(world.root).filter(name => name !== 'trash')).to.have.members(
      before.filter(name => name !== 'trash'),
    );
    expect(await contents(world, 'base')).to.contain('/secret 100600 0:0 6 5ebe2294ecd0e0f08eab7690d2a6ee69');
  });

  it('RemoveAfterCommit (docker#24309): a layer that is still mounted goes as soon as it is not', async () => {
    const { store } = world;
    const sources = await store.prepare('key', { parent: 'base' });
    await withMount(world, sources, async path => {
      await store.remove('key');
      expect((await store.cleanup()).left).to.equal(1);
      writeFileSync(join(path, 'file'), 'still there');
      expect(existsSync(join(path, 'secret'))).to.equal(true);
    });
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  const stale = exceptions.deletesSockets ? 'replace' : 'cannot delete (ENXIO)';
  it(`UnixDomainSockets (docker#12080): programs meet at a socket, and ${stale} the file of one in lower layers`, async () => {
    const { store } = world;
    await withMount(world, await store.prepare('key', { parent: 'base' }), async path => {
      expect(await speak(join(path, 'var/socket'))).to.equal('hello');
      // Node deletes the file of its own server; that of a program that was killed stays.
      const child = spawn('socat', [`UNIX-LISTEN:${path}/var/stale`, 'STDOUT'], { stdio: 'ignore' });
      const exit = once(child, 'exit');
      await until('the socket to be there', 5_000, () => existsSync(join(path, 'var/stale')));
      child.kill('SIGKILL');
      await exit;
    });
    await store.commit('name', 'key');
    await withMount(world, await store.prepare('child', { parent: 'name' }), async path => {
      const socket = join(path, 'var/stale');
      expect(lstatSync(socket).isSocket()).to.equal(true);
      if (!exceptions.deletesSockets) return expect(() => unlinkSync(socket)).to.throw(/ENXIO/);
      unlinkSync(socket);
      expect(await speak(socket)).to.equal('hello');
    });
  });

  it('DirectoryInodeStability (docker#19647): a directory keeps its inode number when something in it changes', async () => {
    await withMount(world, await world.store.prepare('key', { parent: 'base' }), path => {
      const numbers = () => ['dir', 'dir/below', '.'].map(name => statSync(join(path, name)).ino);
      const before = numbers();
      writeFileSync(join(path, 'dir/below/new'), 'x');
      chmod('/dir', 0o700)(path);
      writeFileSync(join(path, 'new'), 'x');
      expect(numbers()).to.deep.equal(before);
    });
  });

  const inode = exceptions.keepsInodeNumbers ? 'keeps its inode number' : 'gets another inode number';
  const reader = exceptions.openFilesSeeWrites ? 'sees' : 'does not see';
  it(`OpenFileInodeStability (docker#12327): a file ${inode} here at the first write, and an open reader ${reader} it`, async () => {
    await withMount(world, await world.store.prepare('key', { parent: 'base' }), path => {
      const reading = openSync(join(path, 'secret'), 'r');
      const writing = openSync(join(path, 'secret'), 'r+');
      try {
        writeSync(writing, 'changed');
        const bytes = Buffer.alloc(10);
        const seen = bytes.toString('utf8', 0, readSync(reading, bytes, 0, 10, 0));
        const isSame = fstatSync(reading).ino === fstatSync(writing).ino;
        expect(seen).to.equal(exceptions.openFilesSeeWrites ? 'changed' : 'secret');
        expect(isSame).to.equal(exceptions.keepsInodeNumbers);
        expect(statSync(join(path, 'secret')).ino).to.equal(fstatSync(writing).ino);
      } finally {
        closeSync(reading);
        closeSync(writing);
      }
    });
  });

  const [links, after] = {
    true: ['stay one file', ['old and new']],
    false: ['part', ['old']],
    sometimes: ['stay one file or part, whatever was read first,', ['old', 'old and new']],
  }[`${exceptions.keepsHardLinks}`] as [string, string[]];
  it(`hard links of a lower file ${links} when one is written to`, async () => {
    await withMount(world, await world.store.prepare('key', { parent: 'base' }), path => {
      appendFileSync(join(path, 'dir/link'), ' and new');
      expect(readFileSync(join(path, 'dir/link'), 'utf8')).to.equal('old and new');
      expect(readFileSync(join(path, 'dir/file'), 'utf8')).to.be.oneOf(after);
    });
  });

  it('GetCWD (docker#19082): a process keeps its working directory while that is changed', async () => {
    await withMount(world, await world.store.prepare('key', { parent: 'base' }), async path => {
      const child = spawn('sh', ['-c', 'echo ready; read line; /bin/pwd -P; echo x > here && cat here'], {
        cwd: join(path, 'dir/below'),
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const output: string[] = [];
      child.stdout.setEncoding('utf8').on('data', (text: string) => output.push(text));
      await once(child.stdout, 'data');
      chmod('/dir/below', 0o711)(path);
      writeFileSync(join(path, 'dir/below/file'), 'x');
      chmod('/dir', 0o711)(path);
      child.stdin.end('go\n');
      await once(child, 'close');
      expect(output.join('')).to.equal(`ready\n${path}/dir/below\nx\n`);
      expect(existsSync(join(path, 'dir/below/here'))).to.equal(true);
    });
  });

  it('Chmod (docker/machine#3327): of files and directories of lower layers, the content stays', async () => {
    const { store } = world;
    const changes = [
      ...[chmod('/secret', 0o4755), chmod('/dir', 0o1777), chmod('/dir/file', 0), chmod('/var', 0o2750)],
      file('/own', 'x', 0o6711),
    ];
    await prepare(world, 'key', { parent: 'base' }, [remove('/dir/link'), ...changes]);
    await store.commit('name', 'key');
    const initial = [
      ...[directory('/dir/below'), file('/dir/file', 'old')],
      ...[file('/secret', 'secret', 0o600), directory('/var')],
    ];
    expect(await contents(world, 'name')).to.deep.equal(flat(world, initial, changes));
    expect(await contents(world, 'base')).to.contain('/var 40755 0:0');
  });

  it('RemoveInWalk: layers with files can be removed while a walk finds them', async () => {
    const { store } = world;
    for (const key of ['a', 'b', 'c']) await prepare(world, key, { parent: 'base' }, [file('/x', key)]);
    for await (const { name } of store.walk(['kind==active'])) await store.remove(name);
    expect(await namesIn(store)).to.deep.equal(['base']);
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });
}
