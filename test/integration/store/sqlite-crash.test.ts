import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import { nodeBinary } from '../../../scripts/lib/paths.ts';
import type { ObjectStore, StoreEvent } from '../../../src/core/ports.ts';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';

const writer = join(import.meta.dirname, 'writer.ts');

interface Written {
  readonly lines: readonly string[];
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

interface Order {
  readonly path: string;
  readonly synchronous: 'FULL' | 'OFF';
  readonly count: number;
  /** Kills the process with SIGKILL once it has said this many lines. */
  readonly killAfter?: number;
  readonly faults?: string;
}

async function write({ path, synchronous, count, killAfter, faults }: Order): Promise<Written> {
  const env = { ...process.env, ...(faults === undefined ? {} : { VARVE_FAULTS: faults }) };
  const child = spawn(nodeBinary, [writer, path, synchronous, `${count}`], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 15_000,
  });
  const ended = new Promise<NodeJS.Signals | null>(resolve =>
    child.on('close', (_, signal) => resolve(signal)),
  );
  let stderr = '';
  child.stderr.on('data', data => {
    stderr += data;
  });
  const lines: string[] = [];
  for await (const line of createInterface(child.stdout)) {
    lines.push(line);
    if (lines.length === killAfter) child.kill('SIGKILL');
  }
  return { lines, signal: await ended, stderr };
}

async function events(store: ObjectStore): Promise<StoreEvent[]> {
  const wanted = (await store.revision()) * 3;
  const seen: StoreEvent[] = [];
  for await (const event of store.watch('', 0, AbortSignal.timeout(5_000))) {
    if (seen.push(event) === wanted) break;
  }
  return seen;
}

/** What the writer leaves after its n-th transaction, and nothing else. */
async function expectWhole(store: ObjectStore): Promise<number> {
  const revision = await store.revision();
  const found = (await store.list('')).map(({ key, value, revision }) => [
    key,
    (value as unknown[])[0],
    revision,
  ]);
  const numbers = Array.from({ length: revision }, (_, index) => index + 1);
  const records = numbers.map(n => [`c/${n}`, n, n]).sort(([a], [b]) => (`${a}` < `${b}` ? -1 : 1));
  expect(found).to.deep.equal([['a', revision, revision], ['b', revision, revision], ...records]);
  const told = (await events(store)).map(event => (event.type === 'put' ? event.object.revision : 0));
  expect(told).to.deep.equal(numbers.flatMap(n => [n, n, n]));
  return revision;
}

describe('a SQLite store whose process dies', () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'varve-store-'));
    path = join(directory, 'state.db');
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const reopened = async (): Promise<number> => {
    const store = await openSqliteStore(path, { synchronous: 'FULL', create: false });
    try {
      return await expectWhole(store);
    } finally {
      await store.close();
    }
  };

  for (const synchronous of ['FULL', 'OFF'] as const) {
    it(`has every acknowledged transaction, and each one whole (synchronous ${synchronous})`, async () => {
      let last = 0;
      for (const killAfter of [1, 23, 150]) {
        const { lines, signal, stderr } = await write({ path, synchronous, count: 100_000, killAfter });
        expect(signal, stderr).to.equal('SIGKILL');
        expect(lines.length).to.be.at.least(killAfter);
        const revision = await reopened();
        expect(lines.at(0)).to.equal(`acknowledged ${last + 1}`);
        expect(revision).to.be.at.least(last + lines.length);
        last = revision;
      }
    });
  }

  for (const [point, kept] of [
    ['store.commit:before', 3],
    ['store.commit:after', 4],
  ] as const) {
    it(`at ${point} has ${kept} of 4 transactions`, async () => {
      await write({ path, synchronous: 'FULL', count: 3 });
      const faults = join(directory, 'faults');
      writeFileSync(faults, `${point} kill\n`);
      const { lines, signal } = await write({ path, synchronous: 'FULL', count: 1, faults });
      expect({ lines, signal }).to.deep.equal({ lines: [], signal: 'SIGKILL' });
      expect(await reopened()).to.equal(kept);
    });
  }

  it('goes on after a failed transaction, which took no revision', async () => {
    const faults = join(directory, 'faults');
    writeFileSync(faults, 'store.commit:before error\n');
    const failed = await write({ path, synchronous: 'FULL', count: 2, faults });
    expect(failed.lines).to.deep.equal(['failed Internal', 'failed Internal']);
    expect((await write({ path, synchronous: 'FULL', count: 1 })).lines).to.deep.equal(['acknowledged 1']);
  });

  it('passes the points of a commit in the durable store only', async () => {
    const faults = join(directory, 'faults');
    writeFileSync(faults, '');
    await write({ path: join(directory, 'boot.db'), synchronous: 'OFF', count: 1, faults });
    expect(commitPoints(faults)).to.deep.equal([]);
    await write({ path, synchronous: 'FULL', count: 1, faults });
    expect(commitPoints(faults)).to.deep.equal(['store.commit:before', 'store.commit:after']);
  });
});

function commitPoints(faults: string): readonly string[] {
  if (!existsSync(`${faults}.hits`)) return [];
  const hits = readFileSync(`${faults}.hits`, 'utf8').split('\n');
  return hits.filter(point => point.startsWith('store.commit'));
}
