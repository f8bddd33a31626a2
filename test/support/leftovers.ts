import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { mountPoints } from '../../scripts/lib/mounts.ts';
import { varveScript } from '../../scripts/lib/paths.ts';
import { allPids, commandLine, programName } from '../../scripts/lib/proc.ts';

/** Where engines look for plugins. */
const pluginDirectories = ['/run/docker/plugins', '/etc/docker/plugins', '/usr/lib/docker/plugins'];
/** Where daemons, and the containers of an engine, keep sockets. */
const socketDirectories = ['/run/varve', '/run/containerd/s'];

/** What tests could leave in a mount namespace, each as one line for a person: it is seen nowhere else. */
export function takeMountSnapshot(): ReadonlySet<string> {
  return new Set([
    ...mountPoints().map(point => `mount ${point}`),
    ...pluginDirectories.flatMap(names).map(path => `file ${path}`),
  ]);
}

/** What tests could leave on a host, each as one line for a person. */
export function takeSnapshot(): ReadonlySet<string> {
  return new Set([
    ...takeMountSnapshot(),
    ...loopDevices().map(device => `loop device ${device}`),
    ...ourProcesses().map(text => `process ${text}`),
    ...names('/sys/class/net').map(path => `network interface ${basename(path)}`),
    ...controlGroups().map(path => `control group ${path}`),
    ...socketDirectories.flatMap(names).map(path => `file ${path}`),
    ...names(tmpdir())
      .filter(path => basename(path).startsWith('varve-'))
      .map(path => `file ${path}`),
  ]);
}

/** What is there now and was not before. */
export function leftovers(before: ReadonlySet<string>, take = takeSnapshot): readonly string[] {
  return [...take()].filter(line => !before.has(line)).sort();
}

function loopDevices(): readonly string[] {
  const loops = names('/sys/block').filter(path => basename(path).startsWith('loop'));
  return loops.flatMap(path => {
    const file = read(join(path, 'loop/backing_file')).trim();
    return file === '' ? [] : [`/dev/${basename(path)} on ${file}`];
  });
}

/** Those of whole hosts and of podman, in the one hierarchy or in each (cgroups(7)). */
function controlGroups(): readonly string[] {
  const top = names('/sys/fs/cgroup');
  return [...top, ...top.flatMap(names)].filter(path => /^(varve-|libpod_parent$)/.test(basename(path)));
}

/** Engines, daemons of this checkout, and whatever works in a test's directory. */
function ourProcesses(): readonly string[] {
  const scratch = join(tmpdir(), 'varve-');
  return allPids()
    .filter(pid => pid !== process.pid)
    .flatMap(pid => {
      const words = commandLine(pid);
      const touches = [...words, workingDirectory(pid), read(`/proc/${pid}/environ`)].some(
        text => text.includes(scratch) || text === varveScript,
      );
      const engine = /^(dockerd|containerd|containerd-shim.*)$/.test(programName(pid));
      return touches || engine ? [`${pid} ${words.join(' ')}`] : [];
    });
}

function workingDirectory(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}

function names(directory: string): readonly string[] {
  try {
    return readdirSync(directory).map(name => join(directory, name));
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
