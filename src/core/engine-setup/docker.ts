import { FailedPrecondition } from '../../errors/errors.ts';
import {
  daemonJsonText,
  faceFor,
  graphDriverUnit,
  parseDaemonJson,
  settledByFlags,
  without,
  withStorage,
} from './docker-config.ts';
import type { EngineFaces, EngineHost, EngineProgram, EngineQuestions, SetupRequest } from './host.ts';
import { flagOf, lastLine, noFace, type Plan, planned, programFor } from './plan.ts';
import type { EngineFace } from './view.ts';

/** @throws InvalidArgument, NotFound, FailedPrecondition when other settings forbid it, or dockerd refuses the result */
export async function planDocker(
  faces: EngineFaces,
  request: SetupRequest,
  host: EngineHost,
  questions: Pick<EngineQuestions, 'storage'>,
): Promise<Plan> {
  const program = await programFor(request, host, 'dockerd', faces.docker.replace(/^unix:\/\//, ''));
  const file =
    request.file ?? flagOf(program?.commandLine ?? [], '--config-file') ?? '/etc/docker/daemon.json';
  const found = await host.read(file);
  const before = found ?? '';
  const json = parseDaemonJson(before, file);
  const settled = settledByFlags(program?.commandLine ?? [], request.name);
  const major = program?.major ?? 28;
  const face = faceFor(major, json);
  const socket = faceSocket(faces, face, request.name);
  const after = without(withStorage(json, face, request.name, file), settled);
  const isSame = JSON.stringify(after) === JSON.stringify(json);
  const text = isSame ? before : daemonJsonText(after, before);
  const daemonJson = isSame && found === undefined ? [] : [await planned(host, file, text)];
  const isGraph27 = major === 27 && face === 'graph driver';
  const files = [...daemonJson, ...(isGraph27 ? [await planned(host, unitFile, graphDriverUnit)] : [])];
  const checkedBy = await tryDocker(host, program, isSame && before === '' ? '{}' : text);
  const storage = await questions.storage(faces.docker).catch(() => undefined);
  const old = storage === undefined ? 'the storage driver that it had before' : storage.driver;
  return {
    version: program?.version ?? null,
    ...{ face, socket, files, lines: [], checkedBy },
    notes: dockerNotes(faces, request, face, { isHere: program !== undefined, old }),
  };
}

const unitFile = '/etc/systemd/system/docker.service.d/varve.conf';

/** dockerd can read a file without starting since 23.0 (moby#42393). @returns the command; null without one */
async function tryDocker(
  host: EngineHost,
  program: EngineProgram | undefined,
  text: string,
): Promise<string | null> {
  if (program === undefined || program.major < 23) return null;
  const command = [program.path, '--validate'] as const;
  const { code, stderr } = await host.withFiles(
    () => ({ 'daemon.json': text }),
    directory => host.run(command[0], ['--validate', '--config-file', `${directory}/daemon.json`]),
  );
  if (code === 0) return command.join(' ');
  throw new FailedPrecondition(
    `${program.path} refuses the settings: ${lastLine(stderr)}; repair its file first`,
  );
}

function dockerNotes(
  faces: EngineFaces,
  { name }: SetupRequest,
  face: EngineFace,
  { isHere, old }: { readonly isHere: boolean; readonly old: string },
): readonly string[] {
  const containerd = faces.snapshotters[name]?.containerd ?? '';
  return [
    ...(isHere ? [] : ['dockerd is not on this host: this is for Docker 28.']),
    ...(old === name
      ? []
      : [
          `Images and containers of ${old} disappear from view until you switch back; nothing of them is deleted, and they keep their space. docker save what you want to load again.`,
        ]),
    ...(face === 'snapshotter'
      ? [
          `dockerd must use the containerd at ${containerd}, which must know varve: varve engine setup containerd. A containerd that dockerd starts by itself does not.`,
        ]
      : []),
  ];
}

function faceSocket(faces: EngineFaces, face: EngineFace, name: string): string {
  const isSnapshotter = face === 'snapshotter';
  const known = isSnapshotter ? faces.snapshotters : faces.graphDrivers;
  const found = known[name];
  if (found !== undefined) return found.socket;
  throw noFace(isSnapshotter ? 'snapshotter' : 'driver with a layer store', name, Object.keys(known));
}
