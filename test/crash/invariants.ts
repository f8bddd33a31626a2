import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { mountsBelow } from '../../scripts/lib/mounts.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { StateExport, StateFinding, VolumeView } from '../../src/core/volumes/view.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { admin } from './admin.ts';

/** Longest time in which the daemon puts right what a crash left, in milliseconds. */
const patienceMs = 10_000;

/** Waits until records, disk and mount table agree. */
export function expectAgreement(daemon: TestDaemon): Promise<void> {
  return expectNone('disagreements', async () => {
    const findings = await admin<StateFinding[]>(daemon, 'POST', '/v1/state/check');
    return findings.map(({ problem, subject, message }) => `${problem} ${subject}: ${message}`);
  });
}

/** Waits until there is nothing but the volumes that are named: no record, directory, mount point or mount. */
export function expectNothingBut(daemon: TestDaemon, ...names: readonly string[]): Promise<void> {
  return expectNone('leftovers', () => leftoversOf(daemon, names));
}

async function leftoversOf(daemon: TestDaemon, names: readonly string[]): Promise<readonly string[]> {
  const views = await admin<VolumeView[]>(daemon, 'GET', '/v1/volumes');
  const kept = views.filter(({ name }) => names.includes(name));
  const { objects } = await admin<StateExport>(daemon, 'GET', '/v1/state/export');
  const pool = join(daemon.root, 'pools/default');
  const mountDirectory = join(daemon.root, 'mnt');
  const known = {
    views: names,
    keys: kept.map(({ name }) => `volumes/${name}`),
    pool: ['pool.json', 'trash', ...kept.map(({ number }) => String(number))],
    mountPoints: kept.map(({ number }) => `default-${number}`),
    mounts: kept.map(({ mountPoint }) => mountPoint),
  };
  const without = (all: readonly string[], expected: readonly string[], kind: string): readonly string[] =>
    all.filter(name => !expected.includes(name)).map(name => `${kind} ${name}`);
  return [
    ...without(
      views.map(({ name }) => name),
      known.views,
      'volume',
    ),
    ...without(
      objects.map(({ key }) => key).filter(key => /^(volumes|trash|labels)\//.test(key)),
      known.keys,
      'record',
    ),
    ...without(readdirSync(pool), known.pool, 'in the pool'),
    ...without(namesIn(join(pool, 'trash')), [], 'in the trash'),
    ...without(readdirSync(mountDirectory), known.mountPoints, 'mount point'),
    ...without(mountsBelow(daemon.directory), known.mounts, 'mount'),
  ];
}

async function expectNone(what: string, find: () => Promise<readonly string[]>): Promise<void> {
  let found: readonly string[] = [];
  try {
    await until(what, patienceMs, async () => {
      found = await find();
      return found.length === 0;
    });
  } catch (error) {
    throw new Error(`${what} ${patienceMs / 1000} s later:\n${found.join('\n')}`, { cause: error });
  }
}

function namesIn(directory: string): readonly string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
