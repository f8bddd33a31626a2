/** What has to be undone, in the reverse order of doing it. */
export class Cleanup {
  readonly #undo: (() => Promise<void> | void)[] = [];

  defer(undo: () => Promise<void> | void): void {
    this.#undo.push(undo);
  }

  /** Undoes everything, once, also when some of it fails. @throws AggregateError of what failed */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, 'not everything could be closed');
  }
}
