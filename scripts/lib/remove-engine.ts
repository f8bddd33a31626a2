import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type EngineFiles, engineFiles } from './engine.ts';
import { ask } from './http.ts';
import { unmountBelow } from './mounts.ts';
import {
  allPids,
  childrenOf,
  commandLine,
  end,
  identify,
  kill,
  type ProcessId,
  programName,
} from './proc.ts';

const programs = /^(dockerd|containerd|containerd-shim.*)$/;

/**
 * Ends a private engine and deletes its directory: containers, dockerd, containerd and shims, mounts, control
 * groups, sockets. It does not have to run, and may be a containerd alone. Each process is known by the engine's own
 * directory or namespace among its arguments.
 * @throws FailedPrecondition when a mount stays; nothing is deleted then
 */
export async function removeEngine(directory: string): Promise<void> {
  const files = engineFiles(directory);
  await removeContainers(files);
  await endProcesses(files, 'dockerd', 20_000);
  for (const shim of engineProcesses(files, 'containerd-shim')) await removeShim(shim);
  await endProcesses(files, 'containerd', 10_000);
  await removeControlGroups(files);
  await unmountBelow(directory);
  await rm(directory, { recursive: true, force: true });
}

/** The processes of one engine that run this program. */
export function engineProcesses(files: EngineFiles, program: string): readonly ProcessId[] {
  const ours = (text: string) => text.startsWith(`${dirname(files.socket)}/`) || text === files.namespace;
  return allPids()
    .filter(pid => programs.test(programName(pid)) && programName(pid).replace(/-runc-v\d$/, '') === program)
    .filter(pid => commandLine(pid).some(ours))
    .map(identify)
    .filter(id => id !== undefined);
}

/** Leaves to dockerd what it can still do; what it cannot, the kernel does below. */
async function removeContainers(files: EngineFiles): Promise<void> {
  const list = await ask(files.socket, 'GET', '/containers/json?all=1').catch(() => undefined);
  if (list?.status !== 200) return;
  const containers = JSON.parse(list.body) as { readonly Id: string }[];
  const remove = (id: string) =>
    ask(files.socket, 'DELETE', `/containers/${id}?force=1`, { timeoutMs: 20_000 });
  await Promise.allSettled(containers.map(({ Id }) => remove(Id)));
}

async function endProcesses(files: EngineFiles, program: string, graceMs: number): Promise<void> {
  await Promise.all(engineProcesses(files, program).map(id => end(id, graceMs)));
}

/** A shim outlives its engine, and its container outlives it: the container first. */
async function removeShim(shim: ProcessId): Promise<void> {
  const sockets = listeningSockets(shim.pid);
  const containers = childrenOf(shim.pid)
    .map(identify)
    .filter(id => id !== undefined);
  for (const container of containers) await kill(container);
  await kill(shim);
  for (const socket of sockets) await rm(socket, { force: true });
}

/** The socket files that a process has open (proc(5), `/proc/net/unix`: the inode and the path come last). */
function listeningSockets(pid: number): readonly string[] {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
  return openSocketInodes(pid).flatMap(inode => {
    const line = lines.find(text => text.includes(` ${inode} /`));
    return line === undefined ? [] : [line.slice(line.indexOf('/'))];
  });
}

function openSocketInodes(pid: number): readonly string[] {
  try {
    const links = readdirSync(`/proc/${pid}/fd`).map(fd => readlinkSync(`/proc/${pid}/fd/${fd}`));
    return links.map(link => /^socket:\[(\d+)\]$/.exec(link)?.[1]).filter(inode => inode !== undefined);
  } catch {
    // It has ended meanwhile, and its descriptors with it.
    return [];
  }
}

/** Control groups of containers that ended without runc: `docker/ID` in each hierarchy (cgroups(7)). */
async function removeControlGroups(files: EngineFiles): Promise<void> {
  const ids = await readdir(join(files.dataRoot, 'containers')).catch(() => []);
  const hierarchies = [
    '/sys/fs/cgroup',
    ...(await readdir('/sys/fs/cgroup')).map(name => join('/sys/fs/cgroup', name)),
  ];
  const groups = hierarchies.flatMap(hierarchy => ids.map(id => join(hierarchy, 'docker', id)));
  await Promise.allSettled(groups.map(group => rmdir(group)));
}
