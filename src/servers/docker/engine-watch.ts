/**
 * Notices that an engine has started anew, by the process that makes the calls: a managed plugin gets no
 * Plugin.Activate (moby, daemon/pkg/plugin), and lives on under `--live-restore` while its engine restarts.
 */
export class EngineWatch {
  readonly #onRestart: () => Promise<void>;
  #process: number | undefined;
  #noticed = Promise.resolve();

  constructor(onRestart: () => Promise<void>) {
    this.#onRestart = onRestart;
  }

  /** Call it before each call of the engine is answered; `process` is undefined when it cannot be known. */
  async see(process: number | undefined): Promise<void> {
    if (process !== undefined && process !== this.#process) {
      this.#process = process;
      this.#noticed = this.#onRestart();
    }
    await this.#noticed;
  }
}
