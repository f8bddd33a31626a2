import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { until } from './wait.ts';

/** A process for sure: the pid alone may have gone to another one since (proc(5), `/proc/PID/stat` field 22). */
export interface ProcessId {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process. */
  readonly startTime: string;
}

/** The process that has this pid now, unless it is dead and only waits for its parent. */
export function identify(pid: number): ProcessId | undefined {
  const { state, startTime } = readStat(pid);
  return startTime === undefined || state === 'Z' ? undefined : { pid, startTime };
}

/** Whether nothing is left of a process: a dead one keeps its pid until its parent has asked for its end. */
export function isReaped(id: ProcessId): boolean {
  return readStat(id.pid).startTime !== id.startTime;
}

function readStat(pid: number): {
  readonly state?: string | undefined;
  readonly startTime?: string | undefined;
} {
  const stat = read(`/proc/${pid}/stat`);
  // The second field is a name in brackets, which may hold blanks and brackets itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0], startTime: fields[19] };
}

export function isAlive(id: ProcessId): boolean {
  return identify(id.pid)?.startTime === id.startTime;
}

/** SIGTERM, then SIGKILL when the time is up; resolves when the process is gone. */
export async function end(id: ProcessId, graceMs: number): Promise<'terminated' | 'killed'> {
  signal(id, 'SIGTERM');
  const left = await until(`process ${id.pid} to end`, graceMs, () => !isAlive(id)).catch(() => false);
  if (left) return 'terminated';
  await kill(id);
  return 'killed';
}

/** SIGKILL; resolves when the process is gone. */
export async function kill(id: ProcessId): Promise<void> {
  signal(id, 'SIGKILL');
  await until(`process ${id.pid} to be gone after SIGKILL`, 10_000, () => !isAlive(id));
}

export function allPids(): readonly number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number);
}

export function commandLine(pid: number): readonly string[] {
  return read(`/proc/${pid}/cmdline`).split('\0').slice(0, -1);
}

/** The name of the program that a process runs, also when its file has been replaced since. */
export function programName(pid: number): string {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ''));
  } catch {
    return '';
  }
}

/** The pids of the direct children of a process. */
export function childrenOf(pid: number): readonly number[] {
  return allPids().filter(child => read(`/proc/${child}/status`).includes(`\nPPid:\t${pid}\n`));
}

function signal(id: ProcessId, name: NodeJS.Signals): void {
  try {
    if (isAlive(id)) process.kill(id.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
