/** How many items may be looked at before others have their turn. */
const itemsPerTurn = 1000;

/** Passes items on; after every thousand, what else waits for the main thread goes first. */
export async function* inTurns<T>(items: Iterable<T> | AsyncIterable<T>): AsyncGenerator<T> {
  let count = 0;
  for await (const item of items) {
    yield item;
    count += 1;
    if (count % itemsPerTurn === 0) await new Promise(setImmediate);
  }
}
