import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { exitCodes } from '../errors/to-exit-code.ts';
import { manual } from './manual.ts';
import { report } from './report.ts';

type Loader = () => Promise<(program: Command) => void>;

/** Each command adds itself to the tree. They are loaded when they are wanted, since some bring much with them. */
const commands: Readonly<Record<string, Loader>> = {
  daemon: async () => (await import('./commands/daemon.ts')).daemonCommand,
  volume: async () => (await import('./commands/volume.ts')).volumeCommand,
  layer: async () => (await import('./commands/layer/layer.ts')).layerCommand,
  engine: async () => (await import('./commands/engine.ts')).engineCommand,
  status: async () => (await import('./commands/status.ts')).statusCommand,
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand,
  config: async () => (await import('./commands/config.ts')).configCommand,
  state: async () => (await import('./commands/state.ts')).stateCommand,
  completion: async () => (await import('./commands/completion.ts')).completionCommand,
};

/** What a command line names; everything when it names nothing or wants to complete everything. */
function wanted(argv: readonly string[]): readonly Loader[] {
  const named = Object.keys(commands).filter(name => argv.includes(name));
  const all = named.length === 0 || named.includes('completion');
  return Object.entries(commands).flatMap(([name, load]) => (all || named.includes(name) ? [load] : []));
}

async function buildProgram(argv: readonly string[]): Promise<Command> {
  const program = new Command('varve')
    .description(
      'Storage for container hosts: Docker volumes that keep their promises, and the layers beneath containers.',
    )
    .version(version(), '-V, --version', 'print the version')
    .option(
      '--socket <path>',
      'admin socket of the daemon to talk to (VARVE_SOCKET; default: adminSocket of the configuration)',
    )
    .option('--config <path>', 'configuration file (VARVE_CONFIG; default: /etc/varve/config.yaml)')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'varve: ')) })
    .exitOverride();
  manual(program, {
    examples: [
      ['varve volume ls', 'what volumes there are'],
      ['varve layer tree', 'which layer rests on which'],
      ['varve doctor', 'what works on this host and what does not'],
      ['varve volume create db -o mode=0700', 'a volume, as `docker volume create -d varve` makes it'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
  for (const add of await Promise.all(wanted(argv).map(load => load()))) add(program);
  return program;
}

/** Runs one command line; the outcome is `process.exitCode`. */
export async function run(argv: readonly string[]): Promise<void> {
  process.stdout.on('error', endQuietly);
  try {
    const program = await buildProgram(argv);
    await program.parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = usageCode(error);
    else report(error);
  }
}

/** Commander has printed the message, or the help that was asked for. */
function usageCode(error: CommanderError): number {
  return error.exitCode === 0 ? exitCodes.ok.code : exitCodes.usage.code;
}

/** The reader of our output has seen enough, as in `varve volume ls | head -1`. */
function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit();
  throw error;
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}
