/** Writes what makes an engine store on varve, after the engine's own program has read it. */
import { FailedPrecondition } from '../../errors/errors.ts';
import { planContainerd } from './containerd.ts';
import { planDocker } from './docker.ts';
import type { EngineFaces, EngineHost, EngineQuestions, SetupRequest } from './host.ts';
import { lastLine } from './plan.ts';
import type { EngineSetup } from './view.ts';

/** @throws InvalidArgument, NotFound, FailedPrecondition; nothing is written then */
export async function setUpEngine(
  faces: EngineFaces,
  request: SetupRequest,
  host: EngineHost,
  questions: Pick<EngineQuestions, 'storage'>,
): Promise<EngineSetup> {
  const { engine, name, print } = request;
  const plan =
    engine === 'containerd'
      ? await planContainerd(faces, request, host)
      : await planDocker(faces, request, host, questions);
  if (!print) {
    for (const { path, text, state, backup } of plan.files) {
      if (state !== 'kept') await host.write(path, text, backup);
    }
  }
  const isDone = plan.lines.length === 0;
  const command = host.restartCommand(engine);
  const restarted = request.restart && !print && isDone;
  if (restarted) await restart(host, command);
  return { engine, name, ...plan, restart: command.join(' '), restarted };
}

/** @throws FailedPrecondition */
async function restart(host: EngineHost, [program, ...words]: readonly [string, ...string[]]): Promise<void> {
  const { code, stderr } = await host.run(program, words);
  if (code === 0) return;
  throw new FailedPrecondition(
    `${[program, ...words].join(' ')} failed: ${lastLine(stderr)}; its log says why`,
  );
}
