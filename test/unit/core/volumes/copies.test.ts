import { expect } from 'chai';
import {
  Aborted,
  Exhausted,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
} from '../../../../src/errors/errors.ts';
import type { CopyTree } from '../../../support/memory-disk.ts';
import { rejection } from '../../../support/rejection.ts';
import { type Daemon, Host, mountId, volumeName } from '../../../support/world.ts';

const seeded = volumeName('seeded');
const id = mountId('id-1');
const fromPath = { 'from-path': '/srv/seed' };
const waits = { lockMs: 1_000, copyMs: 5 };

/** A copy that a test holds and ends as it likes. */
class HeldCopy {
  readonly begun = Promise.withResolvers<Parameters<CopyTree>[3]>();
  readonly #end = Promise.withResolvers<void>();

  readonly run: CopyTree = async (_source, _target, _path, options) => {
    options.signal.addEventListener('abort', () => this.#end.reject(new Aborted('the copy was stopped')));
    options.onProgress({ doneBytes: 1024, totalBytes: 4096 });
    this.begun.resolve(options);
    await this.#end.promise;
  };

  finish(): void {
    this.#end.resolve();
  }

  fail(error: Error): void {
    this.#end.reject(error);
  }
}

describe('a volume made from a directory of the host', () => {
  let host: Host;
  let daemon: Daemon;
  let held: HeldCopy;

  beforeEach(async () => {
    host = new Host();
    host.memory.write('/srv/seed/file', 'data');
    daemon = await host.start({ waits });
    held = new HeldCopy();
  });

  const create = (options: Record<string, string> = fromPath) => {
    return daemon.service.create(seeded, daemon.driver, options);
  };
  const phase = () => daemon.inventory.volume(seeded).phase;
  /** Waits until the copy under way has ended and is recorded. */
  const settled = () => daemon.copies.settle(seeded, 5_000);
  const files = () => host.memory.paths().filter(path => path.startsWith(`${host.poolPath}/`));

  it('is ready when Create answers, if the copy is small', async () => {
    await create();
    expect(phase()).to.equal('Ready');
    expect(host.memory.read(`${host.poolPath}/1/data/file`)).to.equal('data');
    await daemon.service.mount(seeded, id);
  });

  it('goes on after Create has answered, and Mount says how far it is', async () => {
    host.memory.copy = held.run;
    await create();
    expect(phase()).to.equal('Creating');
    expect(daemon.inventory.volume(seeded).progress).to.deep.equal({ doneBytes: 1024, totalBytes: 4096 });
    const error = await rejection(daemon.service.mount(seeded, id));
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect(error.message).to.contain('seeded is not ready yet: 1.0 KiB of 4.0 KiB copied');
    expect(daemon.catalog.get(seeded).consumers.size).to.equal(0);
    held.finish();
    await settled();
    expect(phase()).to.equal('Ready');
    await daemon.service.mount(seeded, id);
  });

  it('Create again during the copy starts no second one', async () => {
    host.memory.copy = held.run;
    await create();
    host.memory.copy = () => Promise.reject(new Error('a second copy'));
    await create();
    held.finish();
    await settled();
    expect(phase()).to.equal('Ready');
  });

  it('shows its progress in the log by tenths', async () => {
    host.memory.copy = held.run;
    await create();
    const { onProgress } = await held.begun.promise;
    onProgress({ doneBytes: 1025, totalBytes: 4096 });
    onProgress({ doneBytes: 4096, totalBytes: 4096 });
    held.finish();
    await settled();
    expect(daemon.log).to.deep.equal([
      'info volume seeded: 1.0 KiB of 4.0 KiB copied',
      'info volume seeded: 4.0 KiB of 4.0 KiB copied',
    ]);
  });

  it('a copy that fails at once fails Create and leaves nothing', async () => {
    host.memory.copy = () => Promise.reject(new Exhausted('no space is left'));
    const error = await rejection(create());
    expect(error.message).to.equal('volume seeded was not made: no space is left');
    expect(daemon.catalog.find(seeded)).to.equal(undefined);
    await daemon.trash.empty();
    expect(files()).to.deep.equal([`${host.poolPath}/pool.json`, `${host.poolPath}/trash`]);
  });

  it('two callers of a Create that fails are told the same, and the next Create starts anew', async () => {
    host.memory.copy = () => Promise.reject(new Exhausted('no space is left'));
    for (const error of await Promise.all([rejection(create()), rejection(create())])) {
      expect(error.message).to.equal('volume seeded was not made: no space is left');
    }
    host.memory.copy = held.run;
    await create();
    held.finish();
    await settled();
    expect(phase()).to.equal('Ready');
  });

  it('a copy that fails later says so in the volume, at Mount, and is tried again by Create', async () => {
    host.memory.copy = held.run;
    await create();
    held.fail(new Exhausted('no space is left'));
    await settled();
    expect(daemon.inventory.volume(seeded)).to.include({ phase: 'Failed', health: 'no space is left' });
    const error = await rejection(daemon.service.mount(seeded, id));
    expect(error.message).to.contain('no space is left; remove it, or create it again to retry');
    held = new HeldCopy();
    host.memory.copy = held.run;
    held.finish();
    await create();
    expect(phase()).to.equal('Ready');
    expect(daemon.catalog.get(seeded).record.failure).to.equal(undefined);
  });

  it('can be removed during the copy, which ends', async () => {
    host.memory.copy = held.run;
    await create();
    await daemon.service.remove(seeded, 'engine');
    expect((await held.begun.promise).signal.aborted).to.equal(true);
    await daemon.trash.empty();
    expect(files()).to.deep.equal([`${host.poolPath}/pool.json`, `${host.poolPath}/trash`]);
  });

  it('can be protected during the copy, and its manifest says so when it is whole', async () => {
    host.memory.copy = held.run;
    await create();
    await daemon.service.protect(seeded, true);
    held.finish();
    await settled();
    expect(daemon.inventory.volume(seeded)).to.include({ phase: 'Ready', protected: true });
    expect(host.memory.read(`${host.poolPath}/1/volume.json`)).to.contain('"protected": true');
  });

  it('is copied again from the start after a crash', async () => {
    host.memory.copy = held.run;
    await create();
    host.memory.copy = (_source, target, path) => target.writeFile(`${path}/second`, 'try');
    daemon = await host.start({ waits });
    expect(phase()).to.equal('Creating');
    await daemon.keeper.resume();
    await settled();
    expect(phase()).to.equal('Ready');
    expect(host.memory.read(`${host.poolPath}/1/data/second`)).to.equal('try');
    expect(files().some(path => path.includes('new-'))).to.equal(false);
  });

  it('is stopped by the end of the daemon without a trace of failure', async () => {
    host.memory.copy = held.run;
    await create();
    await daemon.copies.cancelAll();
    expect(daemon.catalog.get(seeded).record.phase).to.equal('Creating');
    expect(daemon.log.filter(line => !line.startsWith('info'))).to.deep.equal([]);
  });

  it('its source must be a directory', async () => {
    const error = await rejection(create({ 'from-path': '/srv/none' }));
    expect(error).to.be.instanceOf(NotFound);
    expect(error.message).to.contain('/srv/none is not a directory').and.to.contain('nothing was created');
  });

  for (const source of ['/', '/varve', '//varve/', '/./varve', '/varve/pools', '/varve/pools/default']) {
    it(`its source cannot be ${source}, which holds the volume itself`, async () => {
      const error = await rejection(create({ 'from-path': source }));
      expect(error).to.be.instanceOf(InvalidArgument);
      expect(error.message).to.contain("holds varve's own data");
      expect(daemon.catalog.all()).to.deep.equal([]);
    });
  }

  for (const [source, links] of Object.entries<Record<string, string>>({
    '/srv/link': { '/srv/link': '/varve' },
    '/srv/link/pools': { '/srv/link': '/varve' },
    '/mnt/disk': { '/varve/pools': '/mnt/disk/deep' },
  })) {
    it(`its source cannot be ${source} where ${Object.entries(links).join().replace(',', ' leads to ')}`, async () => {
      for (const [link, target] of Object.entries(links)) host.memory.links.set(link, target);
      host.memory.makePath('/mnt/disk/deep/default');
      const error = await rejection(create({ 'from-path': source }));
      expect(error).to.be.instanceOf(InvalidArgument);
      expect(error.message).to.contain(source).and.to.contain("holds varve's own data");
      expect(daemon.catalog.all()).to.deep.equal([]);
    });
  }

  it('its source can lie beside our data under a similar name', async () => {
    host.memory.write('/varve-old/file', 'x');
    await create({ 'from-path': '/varve-old' });
    expect(phase()).to.equal('Ready');
  });
});
