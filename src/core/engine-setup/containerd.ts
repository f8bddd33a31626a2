import { FailedPrecondition } from '../../errors/errors.ts';
import {
  type ContainerdConfig,
  type ContainerdFacts,
  dropInOf,
  importLine,
  imports,
  knows,
  ownHeader,
  readContainerdConfig,
  servesKubernetes,
  takesDiffer,
  withImports,
} from './containerd-config.ts';
import type { EngineFaces, EngineHost, EngineProgram, SetupRequest } from './host.ts';
import { directoryOf, flagOf, lastLine, noFace, type Plan, planned, programFor } from './plan.ts';
import type { SetupFile } from './view.ts';

/** @throws InvalidArgument, NotFound, FailedPrecondition when containerd cannot read its configuration, or the one to be */
export async function planContainerd(
  faces: EngineFaces,
  request: SetupRequest,
  host: EngineHost,
): Promise<Plan> {
  const { name } = request;
  const snapshotter = faces.snapshotters[name];
  if (snapshotter === undefined) throw noFace('snapshotter', name, Object.keys(faces.snapshotters));
  const { socket, root } = snapshotter;
  const program = await programFor(request, host, 'containerd', snapshotter.containerd);
  const running = flagOf(program?.commandLine ?? [], '--config', '-c');
  const file = request.file ?? running ?? '/etc/containerd/config.toml';
  const text = await host.read(file);
  const before = readContainerdConfig(text ?? newConfig);
  const facts = await factsOf(host, program, { file: text === undefined ? undefined : file, before, root });
  const path = `${directoryOf(file)}/conf.d/${name}.toml`;
  await requireOwn(host, path);
  const dropIn = await planned(host, path, dropInOf(facts, name, socket));
  if (program !== undefined) {
    const candidate = { text: text ?? newConfig, file, before, path, dropIn: dropIn.text };
    await tryContainerd(host, program, candidate, name, socket);
  }
  return {
    ...{ version: program?.version ?? null, face: 'snapshotter', socket },
    ...(await including(host, dropIn, file, text, before)),
    checkedBy: program === undefined ? null : `${program.path} config dump`,
    notes: containerdNotes(facts, name, program !== undefined),
  };
}

const newConfig = 'version = 2\n';

/** Makes containerd read the drop-in: in a file of its own there is varve's line, in a person's it is the person's. */
async function including(
  host: EngineHost,
  dropIn: SetupFile,
  file: string,
  text: string | undefined,
  before: ContainerdConfig,
): Promise<Pick<Plan, 'files' | 'lines'>> {
  const pattern = `${directoryOf(dropIn.path)}/*.toml`;
  if (text === undefined) {
    return {
      files: [await planned(host, file, withImports(newConfig, before, [pattern])), dropIn],
      lines: [],
    };
  }
  const isImported = before.imports.some(other => imports(absolute(other, file), dropIn.path));
  return { files: [dropIn], lines: isImported ? [] : [importLine(before, file, pattern)] };
}

async function factsOf(
  host: EngineHost,
  program: EngineProgram | undefined,
  found: { readonly file: string | undefined; readonly before: ContainerdConfig; readonly root: string },
): Promise<ContainerdFacts> {
  return {
    ...{ major: program?.major ?? 2, minor: program?.minor ?? 0, configVersion: found.before.version },
    dump: program === undefined ? '' : await dump(host, program, found.file),
    ...{ platform: host.platform, root: found.root },
  };
}

function containerdNotes(facts: ContainerdFacts, name: string, isHere: boolean): readonly string[] {
  return [
    ...(isHere ? [] : ['containerd is not on this host: this is for containerd 2.']),
    ...(takesDiffer(facts)
      ? [
          'From then on containerd asks varve first about each archive that it unpacks, for other snapshotters as well: pulls need varve running.',
        ]
      : [
          'containerd before 1.7 takes no differ: it unpacks archives itself, and varve keeps what it unpacks.',
        ]),
    `What other snapshotters hold stays theirs. A client chooses: ctr run --snapshotter ${name}, nerdctl --snapshotter ${name}.`,
    ...(servesKubernetes(facts.dump)
      ? [
          `Kubernetes (CRI) goes on with its own snapshotter, a setting of the CRI plugin: change it to "${name}" on a drained node only.`,
        ]
      : []),
  ];
}

async function dump(host: EngineHost, { path }: EngineProgram, file: string | undefined): Promise<string> {
  const words = file === undefined ? ['config', 'default'] : ['--config', file, 'config', 'dump'];
  const { code, stdout, stderr } = await host.run(path, words);
  if (code === 0) return stdout;
  throw new FailedPrecondition(
    `${path} cannot read its configuration ${file}: ${lastLine(stderr)}; repair it first`,
  );
}

interface Candidate {
  readonly text: string;
  readonly file: string;
  readonly before: ContainerdConfig;
  readonly path: string;
  readonly dropIn: string;
}

/** Lets the program read what it will find, in a directory of its own. @throws FailedPrecondition */
async function tryContainerd(
  host: EngineHost,
  program: EngineProgram,
  { text, file, before, path, dropIn }: Candidate,
  name: string,
  socket: string,
): Promise<void> {
  const others = before.imports.map(pattern => absolute(pattern, file));
  const files = (directory: string) => ({
    'config.toml': withImports(text, before, [...others, `${directory}/part.toml`]),
    'part.toml': dropIn,
  });
  const found = await host.withFiles(files, directory => dump(host, program, `${directory}/config.toml`));
  if (knows(found, name, socket)) return;
  throw new FailedPrecondition(
    `${program.path} does not find ${name} in the configuration that ${path} would make; another file that it imports says something else`,
  );
}

/** containerd reads a relative pattern from where its file is. */
function absolute(pattern: string, file: string): string {
  return pattern.startsWith('/') ? pattern : `${directoryOf(file)}/${pattern}`;
}

/** @throws FailedPrecondition */
async function requireOwn(host: EngineHost, path: string): Promise<void> {
  const text = await host.read(path);
  if (text === undefined || text.startsWith(ownHeader)) return;
  throw new FailedPrecondition(`${path} was written by somebody else; move it away, and repeat`);
}
