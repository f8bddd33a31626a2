/**
 * The arrows of the architecture: imports point inward only. `allow` lists for each part the parts that it may
 * import besides itself; `types` those of which it may import types and nothing that runs; `files` are single
 * files that may run. The files directly in src are the composition root: they see everything.
 */
const parts = {
  errors: { allow: [] },
  lib: { allow: ['errors'] },
  core: { allow: ['errors', 'lib'] },
  config: { allow: ['core', 'errors', 'lib'] },
  store: { allow: ['errors', 'lib'], types: ['core'] },
  wire: { allow: [] },
  host: { allow: ['errors', 'lib', 'wire'], types: ['core'] },
  tar: { allow: ['errors', 'lib'], types: ['core'] },
  drivers: { allow: ['core', 'errors', 'host', 'lib', 'tar'] },
  servers: { allow: ['core', 'errors', 'lib', 'wire'] },
  cli: {
    allow: ['config', 'errors', 'lib'],
    types: ['core'],
    files: ['src/main.ts', 'src/core/quantity.ts'],
  },
};

/** Packages for development, as npm sees it, that the build puts into the program. */
const bundled = [
  ...['@bufbuild/protobuf', '@grpc/grpc-js', 'cli-table3', 'commander', 'dockerode', 'express'],
  ...['fastest-levenshtein', 'listr2', 'winston', 'yaml', 'zod'],
];

const within = names => names.map(name => `^src/${name}/`);

const arrows = Object.entries(parts).map(([part, { allow, types = [], files = [] }]) => ({
  name: `${part}-arrows`,
  comment: `src/${part} may import ${[...allow, ...types.map(name => `types of ${name}`), ...files].join(', ') || 'nothing of src'}`,
  severity: 'error',
  from: { path: `^src/${part}/` },
  to: { path: '^src/', pathNot: [...within([part, ...allow, ...types]), ...files.map(file => `^${file}$`)] },
}));

const typesOnly = Object.entries(parts).flatMap(([part, { types = [] }]) =>
  types.map(target => ({
    name: `${part}-types-of-${target}`,
    comment: `src/${part} may import types of src/${target}, and nothing that runs`,
    severity: 'error',
    from: { path: `^src/${part}/` },
    to: {
      path: `^src/${target}/`,
      pathNot: (parts[part].files ?? []).map(file => `^${file}$`),
      dependencyTypesNot: ['type-only'],
    },
  })),
);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...arrows,
    ...typesOnly,
    {
      name: 'core-is-pure',
      comment:
        'src/core touches neither the operating system nor a package, but for zod: what it needs is in core/ports.ts',
      severity: 'error',
      from: { path: '^src/core/' },
      to: {
        pathNot: '^node_modules/zod/',
        dependencyTypes: ['core', 'npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'],
      },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'src-stands-alone',
      comment: 'what is shipped imports no test, script, benchmark, or package for development',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|scripts|bench)/' },
    },
    {
      name: 'no-development-packages',
      severity: 'error',
      from: { path: '^src/' },
      to: {
        pathNot: `(^|/)node_modules/(@types/)?(${bundled.join('|')})/`,
        dependencyTypes: ['npm-dev'],
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
