import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '../core/volumes/view.ts';
import { FailedPrecondition } from '../errors/errors.ts';
import type { AdminClient } from './client.ts';
import { progressBar } from './output.ts';

/**
 * Waits until a volume that is being made is ready, asking every `interval` milliseconds.
 * @throws FailedPrecondition when it could not be made; NotFound when somebody removes it meanwhile
 */
export async function untilReady(
  client: Pick<AdminClient, 'volume'>,
  first: VolumeView,
  report: (text: string) => void,
  interval = 250,
): Promise<VolumeView> {
  let view = first;
  while (view.phase === 'Creating') {
    if (view.progress !== null) report(progressBar(view.progress));
    await delay(interval);
    view = await client.volume(first.name);
  }
  if (view.phase !== 'Failed') return view;
  throw new FailedPrecondition(
    `volume ${view.name} could not be made: ${view.health}; remove it with \`varve volume rm ${view.name}\` and make it again`,
  );
}
