/** Asks the engines of a host whether they store on varve. */
import { messageOf } from '../../errors/errors.ts';
import { differOf, takesDiffer } from './containerd-config.ts';
import type { EngineFaces, EngineHost, EnginePlugin, EngineQuestions, EngineStorage } from './host.ts';
import type { EngineName, EngineReport, Missing } from './view.ts';

/** Every containerd that the configuration names, and Docker. @param only leaves out the others */
export async function checkEngines(
  faces: EngineFaces,
  outside: Outside,
  only?: EngineName,
): Promise<readonly EngineReport[]> {
  const containerds = Object.entries(faces.snapshotters).map(([name, { containerd, socket }]) => ({
    ...{ name, address: containerd, socket },
  }));
  const reports: EngineReport[] = [];
  if (only !== 'docker') for (const face of containerds) reports.push(await checkContainerd(face, outside));
  if (only !== 'containerd') reports.push(await checkDocker(faces, outside));
  return reports;
}

type Outside = EngineQuestions & Pick<EngineHost, 'find'>;

interface ContainerdFace {
  readonly name: string;
  readonly address: string;
  readonly socket: string;
}

async function checkContainerd(
  { name, address, socket }: ContainerdFace,
  outside: Outside,
): Promise<EngineReport> {
  const base = { engine: 'containerd', address } as const;
  try {
    const plugins = await outside.plugins(address);
    const program = await outside.find('containerd', address).catch(() => undefined);
    const found = plugins.find(({ type, id }) => type === 'io.containerd.snapshotter.v1' && id === name);
    const actual = found?.address ?? null;
    const missing = [
      ...snapshotterMissing(name, found, socket),
      ...(actual === null ? [] : await answerMissing(outside, name, actual)),
      ...differMissing(name, plugins, program),
    ];
    return {
      ...base,
      version: program?.version ?? null,
      reachable: true,
      usesVarve: found !== undefined && missing.every(({ optional }) => optional),
      face: found === undefined ? null : 'snapshotter',
      socket: actual,
      missing,
    };
  } catch (error) {
    return { ...base, ...silent(messageOf(error)) };
  }
}

/** An engine that cannot be asked. */
function silent(what: string): Omit<EngineReport, 'engine' | 'address'> {
  const fix = 'start it, or correct its address in the configuration of varve';
  const missing = [{ what, fix, optional: false }];
  return { version: null, reachable: false, usesVarve: false, face: null, socket: null, missing };
}

const setUp = 'varve engine setup containerd, then restart containerd';

function snapshotterMissing(
  name: string,
  found: EnginePlugin | undefined,
  socket: string,
): readonly Missing[] {
  if (found === undefined) return [{ what: `it has no snapshotter ${name}`, fix: setUp, optional: false }];
  if (found.failure !== undefined) {
    return [{ what: `its snapshotter ${name} failed: ${found.failure}`, fix: setUp, optional: false }];
  }
  if (found.address === undefined) {
    const what = `its snapshotter ${name} is its own, and no proxy`;
    return [{ what, fix: 'give the one of varve another name', optional: false }];
  }
  if (found.address.replace(/^unix:\/\//, '') === socket) return [];
  const what = `its snapshotter ${name} is at ${found.address}, and varve is at ${socket}`;
  return [{ what, fix: setUp, optional: false }];
}

async function answerMissing(outside: Outside, name: string, socket: string): Promise<readonly Missing[]> {
  try {
    await outside.callSnapshotter(name, socket.replace(/^unix:\/\//, ''));
    return [];
  } catch (error) {
    const what = `the socket ${socket} does not answer: ${messageOf(error)}`;
    return [{ what, fix: 'start varve', optional: false }];
  }
}

function differMissing(
  name: string,
  plugins: readonly EnginePlugin[],
  program: { readonly major: number; readonly minor: number } | undefined,
): readonly Missing[] {
  const differ = plugins.find(({ type, id }) => type === 'io.containerd.differ.v1' && id === differOf(name));
  if (differ !== undefined && differ.failure === undefined) return [];
  if (program === undefined || !takesDiffer(program)) return [];
  return [
    { what: `it has no differ ${differOf(name)}, and unpacks archives itself`, fix: setUp, optional: true },
  ];
}

async function checkDocker(faces: EngineFaces, outside: Outside): Promise<EngineReport> {
  const base = { engine: 'docker', address: faces.docker } as const;
  let storage: EngineStorage;
  try {
    storage = await outside.storage(faces.docker);
  } catch (error) {
    return { ...base, ...silent(messageOf(error)) };
  }
  const { version, driver, isSnapshotter, containerd } = storage;
  const known: Readonly<Record<string, { readonly socket: string; readonly containerd?: string }>> =
    isSnapshotter ? faces.snapshotters : faces.graphDrivers;
  // Of a managed plugin the engine knows the name with a tag.
  const name = Object.keys(known).find(face => driver === face || driver === `${face}:latest`);
  const face = name === undefined ? undefined : known[name];
  const missing = [
    ...(face === undefined
      ? [
          {
            what: `it stores on ${driver}`,
            fix: 'varve engine setup docker, then restart docker',
            optional: false,
          },
        ]
      : []),
    ...containerdMissing(face?.containerd, containerd),
    ...(face === undefined || !isSnapshotter ? [] : await answerMissing(outside, driver, face.socket)),
  ];
  return {
    ...{ ...base, version, reachable: true, missing },
    usesVarve: missing.length === 0,
    face: face === undefined ? null : isSnapshotter ? 'snapshotter' : 'graph driver',
    socket: face?.socket ?? null,
  };
}

function containerdMissing(ours: string | undefined, its: string | undefined): readonly Missing[] {
  if (ours === undefined || its === undefined || its.replace(/^unix:\/\//, '') === ours) return [];
  const what = `its containerd is at ${its}, and varve asks the one at ${ours}`;
  return [
    { what, fix: 'correct `containerd` of the snapshotter in the configuration of varve', optional: false },
  ];
}
