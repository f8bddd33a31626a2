import { runSteps } from '../scripts/lib/steps.ts';
import { FailedPrecondition } from '../src/errors/errors.ts';
import { docker, lastLine, tryDocker } from './docker.ts';
import { pluginDirectory, requireBuilt } from './files.ts';
import { alone } from './lock.ts';

/**
 * Pushes the plugin that is built. The engine keeps none: it would be in the way of one that is installed.
 * @param reference such as `127.0.0.1:5000/varve:1.0`
 * @throws FailedPrecondition when nothing is built, or the engine has a plugin of this name
 */
export async function pushPlugin(reference: string): Promise<void> {
  requireBuilt();
  await alone(async () => {
    await refuseTaken(reference);
    await runSteps([['Push', (onProgress, interrupted) => push(reference, onProgress, interrupted)]]);
  });
}

async function push(
  reference: string,
  onProgress: (text: string) => void,
  interrupted: AbortSignal,
): Promise<string> {
  try {
    onProgress('handing the plugin to the engine');
    await docker(['plugin', 'create', reference, pluginDirectory]);
    interrupted.throwIfAborted();
    await docker(['plugin', 'push', reference], { onOutput: lastLine(onProgress) });
  } catch (error) {
    await tryDocker(['plugin', 'rm', reference]);
    throw error;
  }
  await docker(['plugin', 'rm', reference]);
  return reference;
}

async function refuseTaken(reference: string): Promise<void> {
  if ((await tryDocker(['plugin', 'inspect', reference])).exitCode !== 0) return;
  throw new FailedPrecondition(
    `this engine has a plugin ${reference} already; push another --tag, or remove it: docker plugin rm ${reference}`,
  );
}

/**
 * Installs the plugin from a registry, with every privilege that its manifest asks for, and enables it.
 * @param name what the engine calls it, as in `docker volume create --driver NAME`
 * @param settings such as `VARVE_LOG_LEVEL=debug` or `data.source=/srv`
 */
export async function installPlugin(
  reference: string,
  name: string,
  settings: readonly string[],
): Promise<void> {
  const options = ['--alias', name, '--grant-all-permissions'];
  await runSteps([
    [
      'Install',
      async onProgress => {
        await docker(['plugin', 'install', ...options, reference, ...settings], {
          onOutput: lastLine(onProgress),
        });
        return `${reference} as ${name}`;
      },
    ],
  ]);
  console.log(`Use it: docker volume create --driver ${name} NAME`);
}
