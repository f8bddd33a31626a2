import { mkdir, writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { launch } from './launch.ts';
import type { ProcessId } from './proc.ts';
import { must, run } from './process.ts';

/** Where a private containerd keeps what it has: beside what dockerd has in the directory of an engine. */
export interface ContainerdFiles {
  readonly config: string;
  readonly socket: string;
  readonly log: string;
  /** Content, images, and the snapshots of its own snapshotters. */
  readonly root: string;
  readonly state: string;
}

export interface ContainerdOptions {
  /** For this containerd and a dockerd on it alone: `removeEngine` deletes it. */
  readonly directory: string;
  /** A directory with `containerd`, `ctr` and the shim to use instead of the installed ones. */
  readonly binDir?: string | undefined;
  /** The varve that it has as a snapshotter and, where it can, as a differ. */
  readonly varve?: VarveSnapshotter | undefined;
}

export interface VarveSnapshotter {
  /** What it is called; the differ is `NAME-diff`. By default `varve`. */
  readonly name?: string;
  readonly socket: string;
  /** The directory of its layers. */
  readonly root: string;
}

export function containerdFiles(directory: string): ContainerdFiles {
  return {
    config: join(directory, 'containerd.toml'),
    socket: join(directory, 'containerd.sock'),
    log: join(directory, 'containerd.log'),
    root: join(directory, 'containerd'),
    state: join(directory, 'containerd-state'),
  };
}

/** Starts a containerd that shares nothing with another one, and waits until it answers. @throws Internal */
export async function launchContainerd(options: ContainerdOptions): Promise<ProcessId> {
  const { directory, binDir, varve } = options;
  const files = containerdFiles(directory);
  await mkdir(directory, { recursive: true });
  const settings = [own(directory, files)];
  if (varve !== undefined) settings.push(snapshotter(varve));
  if (varve !== undefined && (await takesDiffers(binDir))) settings.push(differ(varve));
  await writeFile(files.config, settings.join('\n'));
  return launch({
    ...{ program: 'containerd', args: ['--config', files.config], directory, binDir },
    ...{ log: files.log, readyMs: 60_000 },
    answers: () => answers(files.socket, binDir),
  });
}

async function answers(socket: string, binDir: string | undefined): Promise<boolean> {
  const { exitCode } = await run(programIn(binDir, 'ctr'), ['--address', socket, 'version']);
  return exitCode === 0;
}

/** Before 1.7 containerd knows no differ but its own, and does not start when it is given another one. */
async function takesDiffers(binDir: string | undefined): Promise<boolean> {
  const { stdout } = await must(programIn(binDir, 'containerd'), ['--version']);
  const [, major, minor] = /\s(\d+)\.(\d+)\./.exec(stdout) ?? [];
  return Number(major) > 1 || Number(minor) >= 7;
}

export function programIn(binDir: string | undefined, name: string): string {
  return binDir === undefined ? name : join(binDir, name);
}

/** Everything that it would otherwise make elsewhere is in the directory, too; it serves no Kubernetes. */
function own(directory: string, files: ContainerdFiles): string {
  const disabled = [
    ...['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime'],
    ...['io.containerd.internal.v1.tracing', 'io.containerd.nri.v1.nri'],
  ];
  return `version = 2
root = ${quoted(files.root)}
state = ${quoted(files.state)}
disabled_plugins = [${disabled.map(quoted).join(', ')}]
[grpc]
  address = ${quoted(files.socket)}
[ttrpc]
  address = ${quoted(`${files.socket}.ttrpc`)}
[plugins."io.containerd.internal.v1.opt"]
  path = ${quoted(join(directory, 'opt'))}`;
}

function snapshotter({ name = 'varve', socket, root }: VarveSnapshotter): string {
  return `[proxy_plugins.${name}]
  type = "snapshot"
  address = ${quoted(socket)}
  [proxy_plugins.${name}.exports]
    root = ${quoted(root)}`;
}

/**
 * The diff service tries its list in turn. The transfer service, which `ctr` of containerd 2 uses, has one differ for each
 * snapshotter, and takes any when none is named.
 */
function differ({ name = 'varve', socket }: VarveSnapshotter): string {
  const transfer = (snapshotterName: string, differName: string) => `
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/${arch() === 'x64' ? 'amd64' : arch()}"
  snapshotter = "${snapshotterName}"
  differ = "${differName}"`;
  return `[proxy_plugins.${name}-diff]
  type = "diff"
  address = ${quoted(socket)}
[plugins."io.containerd.service.v1.diff-service"]
  default = ["${name}-diff", "walking"]${transfer('overlayfs', 'walking')}${transfer(name, `${name}-diff`)}
`;
}

/** A string as TOML has it. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
