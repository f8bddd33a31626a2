/**
 * Waits for all of them, also when one fails: nothing of it goes on afterwards.
 * @throws what the first of those threw that failed, in the order given
 */
export async function settled<T>(all: readonly Promise<T>[]): Promise<readonly T[]> {
  await Promise.allSettled(all);
  return await Promise.all(all);
}
