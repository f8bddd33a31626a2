import { createHash } from 'node:crypto';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import { type Ring, RingReader } from './ring.ts';

/** @returns the SHA-256 of all that comes through a ring, as in `sha256:...` */
export function digestTask({ ring }: { readonly ring: Ring }, context: TaskContext): string {
  const reader = new RingReader(ring, () => context.throwIfAborted());
  const hash = createHash('sha256');
  for (let bytes = reader.next(); bytes !== undefined; bytes = reader.next()) hash.update(bytes);
  return `sha256:${hash.digest('hex')}`;
}
