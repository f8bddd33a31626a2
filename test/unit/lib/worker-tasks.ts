import { InvalidArgument, NotFound } from '../../../src/errors/errors.ts';
import { serveTasks } from '../../../src/lib/worker-pool.ts';

// The script of the workers in worker-pool.test.ts.
const alive = (flag: Int32Array) => Atomics.load(flag, 0) === 0;

serveTasks({
  double: (value: number) => value * 2,
  refuse: (what: string) => {
    throw new InvalidArgument(`bad: ${what}`, { cause: new NotFound('below') });
  },
  crash: () => {
    throw new TypeError('a defect');
  },
  unclonable: () => () => 1,
  exit: () => process.exit(3),
  count: (to: number, context) => {
    for (let index = 1; index <= to; index += 1) context.progress(index);
    return 'counted';
  },
  /** Blocks the thread until it is told to go on, or to stop. */
  spin: (flag: Int32Array, context) => {
    Atomics.add(flag, 1, 1);
    while (alive(flag)) context.throwIfAborted();
    return 'spun';
  },
});
