import { isBuiltin } from 'node:module';
import type { Plugin } from 'esbuild';

/**
 * Makes a bundle ask for Node's own modules with a call and not with `import`, which reads every property of the
 * module: that of `node:http` then loads the whole of `fetch` and WebSocket, 60 ms at each start.
 */
export const builtinsByCall: Plugin = {
  name: 'builtins-by-call',
  setup(build) {
    build.onResolve({ filter: /./ }, ({ path, kind }) =>
      kind === 'import-statement' && isBuiltin(path) ? { path, namespace: 'builtin' } : undefined,
    );
    build.onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};
