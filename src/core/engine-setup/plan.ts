/** What setting up one engine and another have in common. */
import { InvalidArgument, NotFound } from '../../errors/errors.ts';
import { ownHeader } from './containerd-config.ts';
import type { EngineHost, EngineProgram, SetupRequest } from './host.ts';
import type { EngineSetup, SetupFile } from './view.ts';

/** What a setup comes to, before anything is written. */
export type Plan = Omit<EngineSetup, 'engine' | 'name' | 'restart' | 'restarted'>;

export function noFace(kind: string, name: string, known: readonly string[]): InvalidArgument {
  const list = known.join(', ') || 'none';
  return new InvalidArgument(`the configuration has no ${kind} "${name}"; those it has: ${list}`);
}

/** Undefined when it is not here and only its configuration is wanted. */
export async function programFor(
  { program, print }: SetupRequest,
  host: EngineHost,
  name: 'containerd' | 'dockerd',
  socket: string,
): Promise<EngineProgram | undefined> {
  try {
    return await host.find(name, socket, program);
  } catch (error) {
    if (error instanceof NotFound && print && program === undefined) return undefined;
    throw error;
  }
}

export async function planned(host: EngineHost, path: string, text: string): Promise<SetupFile> {
  const before = await host.read(path);
  if (before === undefined) return { path, text, state: 'new', backup: null };
  if (before === text) return { path, text, state: 'kept', backup: null };
  return { path, text, state: 'changed', backup: before.startsWith(ownHeader) ? null : host.backupOf(path) };
}

/** The value of a flag, as in `--config FILE` and `--config=FILE`. */
export function flagOf(commandLine: readonly string[], ...names: readonly string[]): string | undefined {
  for (const [at, word] of commandLine.entries()) {
    const name = names.find(candidate => word === candidate || word.startsWith(`${candidate}=`));
    if (name !== undefined) return word === name ? commandLine[at + 1] : word.slice(name.length + 1);
  }
  return undefined;
}

export function lastLine(text: string): string {
  const lines = text.trim().split('\n');
  // After a panic the first line says what is wrong, and the last one where.
  return lines.find(line => line.startsWith('panic: ')) ?? lines.at(-1) ?? '';
}

export function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
