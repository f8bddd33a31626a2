import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { FailedPrecondition, messageOf } from '../src/errors/errors.ts';
import { ensureBusyboxImage } from './lib/busybox.ts';
import { daemonAnswers, daemonPaths, quote, startDaemon, varve, writeCommand } from './lib/daemon.ts';
import { engineFiles } from './lib/engine.ts';
import { engineKinds, requireKind, startEngineOnVarve, writeDaemonConfig } from './lib/engine-on-varve.ts';
import { findOrStartEngine } from './lib/find-engine.ts';
import { engineAnswers } from './lib/http.ts';
import { installPackages } from './lib/packages.ts';
import { repository } from './lib/paths.ts';
import { must, run } from './lib/process.ts';
import { binDirectory, engineDirectory, readState, remember, type UpState } from './lib/state.ts';
import { runSteps } from './lib/steps.ts';

const usage = `scripts/up [--env] [--engine ${engineKinds.join('|')}]

Builds varve, starts it for the container engine of this host, or for a private one where there is none, and
shows that two containers share a volume. The volumes are in /var/lib/varve-up, unless VARVE_ROOT names another
directory; all VARVE_* variables reach the daemon.
  --env     print what to evaluate: eval "$(scripts/up --env)"; starts nothing without --engine
  --engine  a private engine that keeps its images and containers on varve`;

type Ready = Required<Pick<UpState, 'engine' | 'paths'>>;

/** The state of an `up` that got as far as the daemon. @throws FailedPrecondition */
function ready(): Ready {
  const { engine, paths } = readState();
  if (engine === undefined || paths === undefined)
    throw new FailedPrecondition('nothing is up; run scripts/up first');
  return { engine, paths };
}

async function build(): Promise<string> {
  await must('npm', ['run', '--silent', 'build'], { cwd: repository });
  writeCommand();
  return `${repository}/dist`;
}

async function engine(onProgress: (text: string) => void): Promise<string> {
  const found = await findOrStartEngine(onProgress);
  remember({ engine: found });
  if ((await run('docker', ['--version']).catch(() => undefined)) === undefined) {
    onProgress('installing the docker command');
    await installPackages(['docker.io']);
  }
  return found.kind === 'found' ? `found one at ${found.socket}` : `a private one at ${found.socket}`;
}

async function image(): Promise<string> {
  const { socket } = readState().engine ?? { socket: '' };
  await installPackages(['busybox-static']);
  return (await ensureBusyboxImage(socket)) ? "made from Debian's busybox-static" : 'was there';
}

async function daemon(): Promise<string> {
  const paths = daemonPaths();
  remember({ paths });
  if (await daemonAnswers(paths)) return 'was running';
  remember({ daemon: await startDaemon(paths, readState().engine?.socket ?? '') });
  return `started on ${paths.root}`;
}

function docker(...args: string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C', DOCKER_HOST: `unix://${ready().engine.socket}` };
  return must('docker', args, { env, timeoutMs: 120_000 }).then(result => result.stdout.trim());
}

function inContainer(script: string): Promise<string> {
  const mount = ['--volume', 'hello:/data', '--volume-driver', 'varve'];
  return docker('run', '--rm', '--network', 'none', ...mount, 'busybox', 'sh', '-c', script);
}

const said = { written: '', read: '' };

async function demonstrate(): Promise<string> {
  await docker('volume', 'create', '--driver', 'varve', 'hello');
  said.written = await inContainer('echo "Hello from $(hostname)" | tee /data/greeting');
  said.read = await inContainer('echo "$(hostname) reads: $(cat /data/greeting)"');
  return 'hello';
}

/** One engine is served at a time. @throws FailedPrecondition */
function requireOnly(name: string | undefined): void {
  const { engine: other } = readState();
  if (other === undefined || other.name === name) return;
  const what = other.name ?? `a daemon for the engine at ${other.socket}`;
  throw new FailedPrecondition(`${what} is up; run scripts/down first`);
}

/** @throws FailedPrecondition, InvalidArgument */
async function engineOnVarve(name: string): Promise<void> {
  requireKind(name);
  requireOnly(name);
  await runSteps([
    ['Building varve', build],
    ['Daemon', daemonFirst],
    [`Engine ${name} on varve`, progress => startOn(name, progress)],
    ['Image busybox', image],
    ['A container', async () => docker('run', '--rm', '--network', 'none', 'busybox', 'echo', 'runs')],
  ]);
  const { paths } = ready();
  console.log(`\n${(await varve(paths, 'layer', 'tree')).stdout}
Type next: eval "$(${quote(`${repository}/scripts/up`)} --env)", then docker run, varve layer tree, varve engine check.
To stop: ${repository}/scripts/down, which removes the images and containers as well.`);
}

/** An engine looks for its storage driver when it starts: the daemon is there before. */
async function daemonFirst(): Promise<string> {
  const paths = daemonPaths(writeDaemonConfig());
  remember({ paths });
  if (await daemonAnswers(paths)) return 'was running';
  remember({ daemon: await startDaemon(paths, engineFiles(engineDirectory).socket) });
  return `started on ${paths.root}`;
}

async function startOn(name: string, onProgress: (text: string) => void): Promise<string> {
  const { socket } = engineFiles(engineDirectory);
  // Before it starts: `down` then knows of an engine that starts half.
  remember({ engine: { kind: 'private', socket, name } });
  const { paths } = readState();
  const engine = await startEngineOnVarve(name, paths ?? daemonPaths(), onProgress);
  remember({ engine });
  return `at ${socket}`;
}

async function everything(): Promise<void> {
  requireOnly(undefined);
  await runSteps([
    ['Building varve', build],
    ['Container engine', engine],
    ['Image busybox', image],
    ['Daemon', daemon],
    ['Two containers share a volume', demonstrate],
  ]);
  console.log(await farewell());
}

async function farewell(): Promise<string> {
  const { engine: served, paths } = ready();
  const version = (await varve(paths, '--version')).stdout.trim();
  return `
A container wrote to the volume hello:   ${said.written}
Another one read what the first wrote:   ${said.read}

varve ${version} serves the engine at ${served.socket} and keeps its volumes in ${paths.root}.

Type next, to make docker and varve work in this shell:
  eval "$(${quote(`${repository}/scripts/up`)} --env)"
then for example:
  docker volume create -d varve -o mode=0700 db
  docker run --rm --network none -v db:/data --volume-driver varve busybox ls -la /data
  varve volume ls
To stop, and keep the volumes:
  ${repository}/scripts/down`;
}

async function printEnvironment(): Promise<void> {
  const { engine: served, paths } = ready();
  if (!(await engineAnswers(served.socket)) || !(await daemonAnswers(paths))) {
    throw new FailedPrecondition('the engine or the daemon has ended since; run scripts/up again');
  }
  const path = process.env.PATH ?? '';
  const before = [binDirectory, served.binDir].filter(part => part !== undefined);
  console.log(`export DOCKER_HOST=${quote(`unix://${served.socket}`)}`);
  console.log(`export VARVE_ROOT=${quote(paths.root)}`);
  console.log(`export VARVE_RUN=${quote(paths.run)}`);
  console.log(`export VARVE_SOCKET=${quote(paths.adminSocket)}`);
  if (paths.configFile !== undefined) console.log(`export VARVE_CONFIG=${quote(paths.configFile)}`);
  const missing = before.filter(part => !path.split(':').includes(part));
  if (missing.length > 0) console.log(`export PATH=${quote([...missing, path].join(':'))}`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { env: { type: 'boolean' }, engine: { type: 'string' }, help: { type: 'boolean' } },
  });
  const { env = false, engine: name, help = false } = values;
  if (help) return console.log(usage);
  if (!env) return name === undefined ? everything() : engineOnVarve(name);
  if (name !== undefined) await upBeside(name);
  await printEnvironment();
}

/** Does the work with what it says on the standard error: the standard output is evaluated. */
async function upBeside(name: string): Promise<void> {
  const child = spawn(process.execPath, [import.meta.filename, '--engine', name], {
    stdio: ['ignore', process.stderr, process.stderr],
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new FailedPrecondition(`${name} did not start; see above`);
}

await main().catch((error: unknown) => {
  // The caller evaluates what we print: this makes the evaluation fail as well.
  if (process.argv.includes('--env')) console.log('false');
  console.error(messageOf(error));
  process.exitCode = 1;
});
