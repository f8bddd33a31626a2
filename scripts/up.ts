import { parseArgs } from 'node:util';
import { FailedPrecondition, messageOf } from '../src/errors/errors.ts';
import { ensureBusyboxImage } from './lib/busybox.ts';
import { daemonAnswers, daemonPaths, quote, startDaemon, varve, writeCommand } from './lib/daemon.ts';
import { findOrStartEngine } from './lib/find-engine.ts';
import { engineAnswers } from './lib/http.ts';
import { installPackages } from './lib/packages.ts';
import { repository } from './lib/paths.ts';
import { must, run } from './lib/process.ts';
import { binDirectory, readState, remember, type UpState } from './lib/state.ts';
import { runSteps } from './lib/steps.ts';

const usage = `scripts/up [--env]

Builds varve, starts it for the container engine of this host, or for a private one where there is none, and
shows that two containers share a volume. The volumes are in /var/lib/varve-up, unless VARVE_ROOT names another
directory; all VARVE_* variables reach the daemon.
  --env  start nothing, print what to evaluate: eval "$(scripts/up --env)"`;

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

async function everything(): Promise<void> {
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
  console.log(`export DOCKER_HOST=${quote(`unix://${served.socket}`)}`);
  console.log(`export VARVE_ROOT=${quote(paths.root)}`);
  console.log(`export VARVE_RUN=${quote(paths.run)}`);
  console.log(`export VARVE_SOCKET=${quote(paths.adminSocket)}`);
  if (!path.split(':').includes(binDirectory)) console.log(`export PATH=${quote(`${binDirectory}:${path}`)}`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { env: { type: 'boolean' }, help: { type: 'boolean' } } });
  if (values.help) return console.log(usage);
  await (values.env ? printEnvironment() : everything());
}

await main().catch((error: unknown) => {
  // The caller evaluates what we print: this makes the evaluation fail as well.
  if (process.argv.includes('--env')) console.log('false');
  console.error(messageOf(error));
  process.exitCode = 1;
});
