import { FailedPrecondition, Unimplemented } from '../../src/errors/errors.ts';
import { engineFiles, launchEngine } from './engine.ts';
import { engineAnswers } from './http.ts';
import { installPackages } from './packages.ts';
import { engineDirectory, type UpState } from './state.ts';

type Engine = NonNullable<UpState['engine']>;

const systemSocket = '/var/run/docker.sock';

/**
 * The engine to serve: the one that DOCKER_HOST names, else the system's, else a private one, which is installed
 * and started when it is not there.
 * @throws FailedPrecondition, Unimplemented for a DOCKER_HOST that cannot be served
 */
export async function findOrStartEngine(onProgress: (text: string) => void): Promise<Engine> {
  const ours = engineFiles(engineDirectory).socket;
  if (await engineAnswers(ours)) return { kind: 'private', socket: ours };
  const named = socketOfDockerHost();
  // After `down` the caller's shell still names the engine that is gone.
  if (named !== undefined && named !== ours) return foundEngine(named);
  if (await engineAnswers(systemSocket)) return { kind: 'found', socket: systemSocket };
  onProgress('installing docker.io');
  await installPackages(['docker.io']);
  onProgress('starting a private dockerd');
  await launchEngine({ directory: engineDirectory });
  return { kind: 'private', socket: ours };
}

async function foundEngine(socket: string): Promise<Engine> {
  if (await engineAnswers(socket)) return { kind: 'found', socket };
  throw new FailedPrecondition(
    `DOCKER_HOST is unix://${socket}, and no engine answers there; start it, or unset DOCKER_HOST`,
  );
}

function socketOfDockerHost(): string | undefined {
  const host = process.env.DOCKER_HOST;
  if (host === undefined || host === '') return undefined;
  if (host.startsWith('unix:///')) return host.slice('unix://'.length);
  throw new Unimplemented(
    `DOCKER_HOST is ${host}; varve mounts on this host and serves an engine on a unix socket here: unset DOCKER_HOST`,
  );
}
