/** The archives of GNU tar come back to the byte from every kind of tree that a layer can have. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { FailedPrecondition } from '../../../src/errors/errors.ts';
import { type FileSystem, LayerHost } from '../../support/layer-host.ts';
import type { LayerWorld } from '../../support/layer-world.ts';
import { rejection } from '../../support/rejection.ts';
import { file, stream, tarOf } from './apply-world.ts';

const longPath = Array.from({ length: 5 }, (_, at) => `${at}`.repeat(200)).join('/');

function makeTree(root: string): void {
  const script = `
    mkdir -p d/deep v7 "${longPath}"; printf hello > d/file; printf hi > d/deep/hi; : > d/empty
    ln d/file d/second; ln -s ../file d/link; mkfifo d/fifo; mknod d/null c 1 3
    chown 1000:100 d/file; chmod 4755 d/deep/hi; setfattr -n user.a -v b d/file
    printf far > "${longPath}/f"; touch -d @-1.5 d/deep/hi
    printf data > sparse; truncate -s 30000000 sparse; printf more >> sparse; truncate -s 40000000 sparse
    head -c 3000000 /dev/urandom > random
  `;
  mkdirSync(root);
  execFileSync('bash', ['-ec', script], { cwd: root });
}

/** Each kind of archive that GNU tar writes. */
const kinds: readonly (readonly string[])[] = [
  ['--format=ustar', '--exclude=sparse', '--exclude=hi', `--exclude=${longPath.slice(0, 200)}`],
  ['--format=gnu'],
  ['--format=oldgnu', '--sparse'],
  ['--format=pax', '--xattrs'],
  ['--format=pax', '--sparse', '--sparse-version=0.0'],
  ['--format=pax', '--sparse', '--sparse-version=0.1', '--blocking-factor=100'],
  ['--format=pax', '--sparse', '--sparse-version=1.0', '--pax-option=comment=global'],
];

for (const [driver, fileSystem] of [
  ['overlay', 'ext4'],
  ['btrfs', 'btrfs'],
  ['copy', 'tmpfs'],
] as const satisfies readonly (readonly [string, FileSystem])[]) {
  describe(`The original of a layer, driver ${driver} on ${fileSystem}`, function () {
    this.timeout(60_000);
    let host: LayerHost;
    let world: LayerWorld;
    let names = 0;

    before(async () => {
      host = await LayerHost.make(fileSystem);
      world = await host.open(driver);
      makeTree(join(world.scratch, 'tree'));
    });
    after(async () => {
      await world?.close();
      await host?.remove();
    });

    /** Makes an active layer of an archive. @returns its key */
    async function apply(archive: Buffer, parent?: string): Promise<string> {
      names += 1;
      const key = `key ${names}`;
      await world.store.prepare(key, parent === undefined ? {} : { parent });
      await world.store.apply(key, stream(archive), { keepOriginal: true });
      return key;
    }

    async function original(name: string): Promise<Buffer> {
      const pieces: Uint8Array[] = [];
      for await (const piece of await world.store.original(name)) pieces.push(piece);
      return Buffer.concat(pieces);
    }

    const expectOriginal = async (name: string, archive: Buffer): Promise<void> =>
      void expect((await original(name)).equals(archive), name).to.equal(true);
    const refused = async (name: string): Promise<void> =>
      void expect(await rejection(original(name))).to.be.instanceOf(FailedPrecondition);

    it('is each archive of GNU tar, one over the other', async () => {
      const made: (readonly [string, Buffer])[] = [];
      for (const kind of kinds) {
        const path = join(world.scratch, 'archive.tar');
        execFileSync('tar', ['-C', join(world.scratch, 'tree'), ...kind, '-cf', path, '.']);
        const archive = readFileSync(path);
        const key = await apply(archive, made.at(-1)?.[0]);
        await expectOriginal(key, archive);
        await world.store.commit(`of ${key}`, key);
        made.push([`of ${key}`, archive]);
      }
      await world.reopen();
      for (const [name, archive] of made) await expectOriginal(name, archive);
    });

    it('is the first archive only, and only when it was asked for', async () => {
      const archive = tarOf([file('f', 'one'), file('f', 'two')]);
      const key = await apply(archive);
      await world.store.apply(key, stream(tarOf([file('g')])), { keepOriginal: true });
      await refused(key);
      await world.store.prepare('not kept');
      await world.store.apply('not kept', stream(archive));
      await refused('not kept');
    });

    it('stays with the frozen layer, and not with what goes on over it', async () => {
      const archive = tarOf([file('f', 'one'), file('f', 'two')]);
      const key = await apply(archive);
      await world.store.freeze(key, `frozen ${key}`);
      await expectOriginal(`frozen ${key}`, archive);
      await refused(key);
      const { number } = await world.store.stat(key);
      expect(() => readFileSync(join(world.root, `${number}`, 'original', 'archive.zst'))).to.throw('ENOENT');
      await world.store.apply(key, stream(tarOf([file('g')])), { keepOriginal: true });
      await expectOriginal(`frozen ${key}`, archive);
      await expectOriginal(key, tarOf([file('g')]));
    });

    it('ends when another layer is merged into it', async () => {
      const below = await apply(tarOf([file('f')]));
      await world.store.commit(`below ${below}`, below);
      const above = await apply(tarOf([file('g')]), `below ${below}`);
      await world.store.commit(`above ${above}`, above);
      await world.store.merge(`below ${below}`);
      await refused(`above ${above}`);
      const { number } = await world.store.stat(`above ${above}`);
      expect(() => readFileSync(join(world.root, `${number}`, 'original', 'archive.zst'))).to.throw('ENOENT');
    });

    it('is not given back when the disk changed a file', async () => {
      const key = await apply(tarOf([file('f', 'content')]));
      await world.store.commit(`of ${key}`, key);
      await world.tamper(`of ${key}`, path => writeFileSync(join(path, 'f'), 'CONTENT'));
      await refused(`of ${key}`);
      await world.tamper(`of ${key}`, path => truncateSync(join(path, 'f'), 0));
      await refused(`of ${key}`);
    });
  });
}
