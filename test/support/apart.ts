/** For suites that run in a mount namespace of their own, where the check after all suites does not look. */
import { Internal } from '../../src/errors/errors.ts';
import { leftovers, takeMountSnapshot } from './leftovers.ts';

let before: ReadonlySet<string>;

export const mochaHooks = {
  beforeAll(): void {
    before = takeMountSnapshot();
  },

  afterAll(): void {
    const left = leftovers(before, takeMountSnapshot);
    if (left.length > 0) throw new Internal(`the tests left behind:\n${left.join('\n')}`);
  },
};
