/** What everything fails with once the power is cut. */
export class PowerCut extends Error {
  override readonly message = 'the power is off';
}

/**
 * The life of one run of the daemon. When it ends, nothing that goes through {@link Power.supply} happens any
 * more: to the outside this is what kill -9 does, without a process to kill.
 */
export class Power {
  /** Half steps until it ends: at an even number before an operation, at an odd one after it, unanswered. */
  #left = Number.POSITIVE_INFINITY;

  get isOff(): boolean {
    return this.#left < 0;
  }

  cut(): void {
    this.#left = -1;
  }

  cutAfter(halfSteps: number): void {
    this.#left = halfSteps;
  }

  /** Lets through the asynchronous methods of `target` while there is power. */
  supply<T extends object>(target: T, wrap: (result: unknown) => unknown = result => result): T {
    return new Proxy(target, {
      get: (_, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function' || property === 'watch') return value;
        return async (...args: unknown[]) => {
          this.#spend();
          const result: unknown = await Reflect.apply(value, target, args);
          this.#spend();
          return wrap(result);
        };
      },
    });
  }

  #spend(): void {
    if (!this.isOff) this.#left -= 1;
    if (this.isOff) throw new PowerCut();
  }
}
