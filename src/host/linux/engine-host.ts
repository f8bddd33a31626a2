import { existsSync } from 'node:fs';
import { mkdtemp, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineHost, EngineQuestions } from '../../core/engine-setup/host.ts';
import { NotFound } from '../../errors/errors.ts';
import { Introspection } from '../../wire/gen/containerd/services/introspection/v1/introspection_pb.ts';
import { Snapshots } from '../../wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { backupOf, readConfigFile, writeConfigFile } from './config-file.ts';
import { ContainerdClient } from './containerd-client.ts';
import { DockerEngine } from './engine.ts';
import { findEngineProgram } from './engine-program.ts';
import { run } from './run.ts';

/** Names of processors in Go, by those in Node. */
const processors: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  arm: 'arm/v7',
};

export const engineHost: EngineHost = {
  platform: `linux/${processors[process.arch] ?? process.arch}`,
  find: findEngineProgram,
  run: (program, words) => run(program, words, { timeout: 120_000 }),
  async withFiles(files, work) {
    const directory = await mkdtemp(join(tmpdir(), 'varve-setup-'));
    const texts = Object.entries(files(directory));
    try {
      for (const [name, text] of texts) await writeFile(join(directory, name), text);
      return await work(directory);
    } finally {
      for (const [name] of texts) await rm(join(directory, name), { force: true });
      await rmdir(directory);
    }
  },
  read: readConfigFile,
  write: writeConfigFile,
  backupOf,
  restartCommand: engine =>
    existsSync('/run/systemd/system') ? ['systemctl', 'restart', engine] : ['service', engine, 'restart'],
};

export const engineQuestions: EngineQuestions = {
  async plugins(address) {
    const { plugins } = await asking(address, client => client.service(Introspection, 'default').plugins({}));
    return plugins.map(({ type, id, exports, initErr }) => ({
      ...{ type, id, address: exports['address'], failure: initErr?.message },
    }));
  },
  async callSnapshotter(name, socket) {
    // One that works says that there is no such layer.
    const request = { snapshotter: name, key: 'varve engine check' };
    await asking(socket, client => client.service(Snapshots, 'default').stat(request)).catch(unlessMissing);
  },
  storage: address => new DockerEngine(address, 10_000).storage(),
};

async function asking<T>(address: string, question: (client: ContainerdClient) => Promise<T>): Promise<T> {
  const client = new ContainerdClient(address);
  try {
    return await question(client);
  } finally {
    client.close();
  }
}

function unlessMissing(error: unknown): void {
  if (!(error instanceof NotFound)) throw error;
}
