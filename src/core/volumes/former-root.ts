import { FailedPrecondition } from '../../errors/errors.ts';
import type { Catalog } from './catalog.ts';
import type { Publisher } from './publisher.ts';
import { samePlace } from './record.ts';

/**
 * Makes sure that a managed plugin has the root that it had before. `docker plugin upgrade` takes the plugin's mounts
 * from the new manifest, settings or not (moby, daemon/pkg/plugin), and to an engine that asks an empty root for
 * its volumes they are gone: it deletes their labels and options. The mount points are the engine's, and stay.
 * @throws FailedPrecondition when there are mount points of volumes, and no volumes
 */
export async function requireFormerRoot(catalog: Catalog, publisher: Publisher): Promise<void> {
  if (catalog.all().length > 0) return;
  const removed = await catalog.trash();
  const strangers = (await publisher.prepared()).filter(
    place => !removed.some(other => samePlace(place, other)),
  );
  if (strangers.length === 0) return;
  throw new FailedPrecondition(
    `the root holds no volumes, and this plugin has mount points of ${strangers.length}: it had another root before, ` +
      'and `docker plugin upgrade` sets data.source back; run `docker plugin set NAME data.source=PATH` with the former ' +
      'one. To begin anew, remove the plugin and install it again',
  );
}
