import { expect } from 'chai';
import { requireFormerRoot } from '../../../../src/core/volumes/former-root.ts';
import { Aborted, FailedPrecondition, Unimplemented } from '../../../../src/errors/errors.ts';
import { rejection } from '../../../support/rejection.ts';
import { Host, hostWithVolume, mountId, volumeName } from '../../../support/world.ts';

const seeded = volumeName('seeded');
const waits = { lockMs: 1_000, copyMs: 5 };

describe('S12 a daemon that runs as a managed plugin', () => {
  it('refuses options that name a directory of the host, and says what to do', async () => {
    const host = new Host();
    host.memory.write('/srv/seed/file', 'that of the image, not of the host');
    const daemon = await host.start({ managed: true });
    const error = await rejection(daemon.service.create(seeded, daemon.driver, { 'from-path': '/srv/seed' }));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('from-path=/srv/seed').and.to.include('host package');
    expect(daemon.catalog.all()).to.deep.equal([]);
  });

  it('leaves a copy that a daemon of the host began to one that sees the host', async () => {
    const host = new Host();
    host.memory.write('/srv/seed/file', 'data');
    const whole = host.memory.copy;
    const began = Promise.withResolvers<void>();
    host.memory.copy = async (_source, _target, _path, { signal }) => {
      began.resolve();
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(new Aborted('stopped'))),
      );
    };
    const first = await host.start({ waits });
    await first.service.create(seeded, first.driver, { 'from-path': '/srv/seed' });
    await began.promise;
    await first.copies.cancelAll();

    const managed = await host.start({ managed: true, waits });
    await managed.keeper.resume();
    expect(managed.inventory.volume(seeded).phase).to.equal('Creating');
    expect(managed.log.join('\n')).to.include('managed plugin');

    host.memory.copy = whole;
    const last = await host.start({ waits });
    await last.keeper.resume();
    await last.copies.settle(seeded, 5_000);
    expect(last.inventory.volume(seeded).phase).to.equal('Ready');
  });

  it('does not take another, empty root for its own, in which every volume would be gone', async () => {
    const before = await new Host().start({ managed: true });
    await before.service.create(seeded, before.driver, {});
    await requireFormerRoot(before.catalog, before.publisher);

    const emptyRoot = await new Host().start({ managed: true });
    await requireFormerRoot(emptyRoot.catalog, emptyRoot.publisher);
    const error = await rejection(requireFormerRoot(emptyRoot.catalog, before.publisher));
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect(error.message).to.include('docker plugin set NAME data.source=');

    await before.service.remove(seeded, 'engine');
    await requireFormerRoot(before.catalog, before.publisher);
  });

  it('leaves its mount points to the engine, which deletes them with the plugin', async () => {
    const { host } = await hostWithVolume();
    const daemon = await host.start({ managed: true });
    await daemon.service.create(seeded, daemon.driver, {});
    await daemon.service.mount(seeded, mountId('id'));
    const points = await host.disk.open(`${host.root}/mnt`);
    expect(await rejection(points.removeDirectory('default-1')), 'made by a daemon of the host').to.be.an(
      'error',
    );
    await points.removeDirectory('default-2');
  });
});
