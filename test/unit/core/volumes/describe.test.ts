import { expect } from 'chai';
import { statusOf } from '../../../../src/core/volumes/describe.ts';
import {
  type Daemon,
  type Host,
  hostWithVolume,
  mountId,
  varve,
  volumeName,
} from '../../../support/world.ts';

const db = volumeName('db');

describe('what a person is shown of a volume', () => {
  let host: Host;
  let daemon: Daemon;

  beforeEach(async () => {
    ({ host, daemon } = await hostWithVolume());
  });

  const view = () => daemon.inventory.volume(db);

  it('is all that is known', async () => {
    await daemon.service.mount(db, mountId('id-1'));
    expect(view()).to.deep.equal({
      name: 'db',
      driver: varve,
      pool: 'default',
      number: 1,
      mountPoint: '/varve/mnt/default-1',
      createdAt: '2026-01-01T00:00:00.000Z',
      phase: 'Ready',
      health: 'ok',
      protected: false,
      options: {},
      labels: {},
      limitBytes: null,
      usage: null,
      consumers: [{ mountId: 'id-1', count: 1, confirmed: true, since: '2026-01-01T00:00:00.000Z' }],
      containers: [],
      progress: null,
    });
  });

  it('S13 in Status is in words that can be read, beside the numbers', async () => {
    host.memory.write(`${host.poolPath}/1/data/file`, 'x'.repeat(1536));
    await daemon.meter.measureStale(new AbortController().signal);
    expect(statusOf(view())).to.include({
      used: '1.5 KiB',
      usedBytes: 1536,
      inodes: 2,
      measuredAt: '2026-01-01T00:00:00.000Z',
      limit: 'none',
    });
    const copying = { ...view(), limitBytes: 2 ** 30, progress: { doneBytes: 512, totalBytes: 1024 } };
    expect(statusOf(copying)).to.include({ limit: '1.0 GiB', progress: '512 B of 1.0 KiB copied' });
    expect(statusOf({ ...copying, progress: { doneBytes: 0, totalBytes: 0 } })).to.include({
      progress: 'the copy is starting',
    });
  });

  it('can be told as JSON as it is', () => {
    expect(JSON.parse(JSON.stringify(view()))).to.deep.equal(view());
  });

  it('of the pools is their health, room and volumes', async () => {
    await daemon.inventory.lookAtPools();
    expect(daemon.inventory.pools()).to.deep.equal([
      {
        name: 'default',
        driver: 'directory',
        root: host.poolPath,
        capabilities: { quota: 'none' },
        health: 'ok',
        freeBytes: 1_000_000,
        totalBytes: 2_000_000,
        volumes: 1,
      },
    ]);
  });
});
