import { createHash, randomBytes } from 'node:crypto';
import { lstatSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AssertionError, expect } from 'chai';
import { admin } from '../crash/admin.ts';
import { expectRemoved, expectSuccess, type TestVolume } from '../crash/test-volume.ts';
import { snapshotTree } from './tree-snapshot.ts';

/** Something that a client asks for; `name` is for messages, and to choose a moment. */
export interface Step {
  readonly name: 'create' | 'copy' | 'use' | 'protect' | 'unprotect' | 'remove';
  /** Asks, and notes the answer. @throws AssertionError when it is refused; any other when nobody answers */
  act(known: KnownVolume): Promise<void>;
}

/** A volume, and what a client knows of it from answers alone. */
export class KnownVolume {
  readonly volume: TestVolume;
  readonly options: Readonly<Record<string, string>>;
  state: 'asked for' | 'there' | 'removed' = 'asked for';
  isProtected = false;
  /** What was asked for and never answered. */
  unanswered: Step | undefined;
  /** Digests of the files that were written and brought to the disk. */
  readonly #files = new Map<string, string>();

  constructor(volume: TestVolume, options: Readonly<Record<string, string>>) {
    this.volume = volume;
    this.options = options;
  }

  get source(): string | undefined {
    return this.options['from-path'];
  }

  async exists(): Promise<boolean> {
    const { daemon, name } = this.volume;
    const { status, body } = await daemon.plugin('VolumeDriver.Get', { Name: name });
    if (status !== 200) expect((body as { Err: string }).Err, `Get of ${name}`).to.match(/no such volume/);
    return status === 200;
  }

  /** Writes a file as a careful program does: it is safe once this resolves. */
  async write(mountPoint: string): Promise<void> {
    const name = `file-${this.#files.size}`;
    const data = randomBytes(1 + (this.#files.size % 8) * 5_000);
    const file = await open(join(mountPoint, name), 'w');
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await syncDirectory(mountPoint);
    this.#files.set(name, digestOf(data));
  }

  /** Whether the volume is whole: attributes and data as they were asked for and written. */
  async expectWhole(): Promise<void> {
    const view = await this.volume.becomes('ready', ({ phase }) => phase === 'Ready');
    expect(view.health, `health of ${view.name}`).to.equal('ok');
    const answer = await this.volume.mount();
    expectSuccess(answer);
    const { Mountpoint: mountPoint } = answer.body as { Mountpoint: string };
    for (const directory of [mountPoint, join(await this.volume.place(), 'data')]) {
      this.#expectAttributes(directory);
      this.#expectData(directory);
    }
    expectSuccess(await this.volume.unmount());
    await this.volume.becomes('unmounted', ({ mountPoint: left }) => left === '');
    await this.volume.expectSealedMountPoint();
  }

  /** Whether the volume is protected, or not, as the last answer said. */
  async expectProtection(): Promise<void> {
    expect((await this.volume.view()).protected, `protection of ${this.volume.name}`).to.equal(
      this.isProtected,
    );
    if (!this.isProtected) return;
    expect((await this.volume.remove()).status, 'removal of a protected volume').to.equal(500);
  }

  #expectAttributes(directory: string): void {
    const { uid, gid, mode } = lstatSync(directory);
    const asked = { uid: Number(this.options['uid']), gid: Number(this.options['gid']) };
    expect({ uid, gid }, `owner of ${directory}`).to.deep.equal(asked);
    expect((mode & 0o7777).toString(8), `mode of ${directory}`).to.equal(
      Number.parseInt(this.options['mode'] ?? '', 8).toString(8),
    );
  }

  #expectData(directory: string): void {
    for (const [name, digest] of this.#files) {
      expect(digestOf(readFileSync(join(directory, name))), `${name} in ${directory}`).to.equal(digest);
    }
    if (this.source === undefined) return;
    if (treeIn(directory) !== treeIn(this.source))
      throw new AssertionError(`${directory} is not the copy of ${this.source} that it was`);
  }
}

const create = (name: Step['name']): Step => ({
  name,
  async act(known) {
    expectSuccess(await known.volume.create(known.options));
    known.state = 'there';
  },
});

const protection = (name: 'protect' | 'unprotect'): Step => ({
  name,
  async act(known) {
    await admin(known.volume.daemon, 'POST', `/v1/volumes/${known.volume.name}/${name}`);
    known.isProtected = name === 'protect';
  },
});

export const steps = {
  create: create('create'),
  copy: create('copy'),
  use: {
    name: 'use',
    async act(known) {
      const answer = await known.volume.mount();
      expectSuccess(answer);
      await known.write((answer.body as { Mountpoint: string }).Mountpoint);
      expectSuccess(await known.volume.unmount());
    },
  },
  protect: protection('protect'),
  unprotect: protection('unprotect'),
  remove: {
    name: 'remove',
    async act(known) {
      expectRemoved(await known.volume.remove());
      known.state = 'removed';
    },
  },
} as const satisfies Record<Step['name'], Step>;

function treeIn(directory: string): string {
  return snapshotTree(directory)
    .map(line => line.slice(directory.length))
    .join('\n');
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function digestOf(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
