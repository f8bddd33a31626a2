import { parseArgs } from 'node:util';
import { InvalidArgument, messageOf } from '../src/errors/errors.ts';
import { buildPlugin } from './build.ts';
import { requireRoot } from './files.ts';
import { installPlugin, pushPlugin } from './publish.ts';

const usage = `npm run plugin -- build [--tag T] [--base IMAGE|debootstrap]
npm run plugin -- push --registry HOST[:PORT] --tag T
npm run plugin -- install --registry HOST[:PORT] --tag T [--alias A] [KEY=VALUE...]

Builds the managed plugin and the image varve:T in the engine of DOCKER_HOST, pushes it to HOST/varve:T, and
installs it from there. T is "latest" unless given.
  --base   what it is built from: by default the public Node image, or where that is out of reach, a Debian that
           debootstrap makes
  --alias  how the engine calls the plugin, instead of HOST/varve:T
KEY=VALUE are settings of the plugin: VARVE_LOG_LEVEL=debug, VARVE_DEBUG=true, data.source=/srv (the directory in
which it makes varve/).`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tag: { type: 'string', default: 'latest' },
      base: { type: 'string' },
      registry: { type: 'string' },
      alias: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  const [command, ...settings] = positionals;
  if (values.help) return console.log(usage);
  if (command !== 'install' && settings.length > 0)
    throw new InvalidArgument(`what is ${settings[0]}?\n${usage}`);
  if (command === 'build') {
    requireRoot();
    return buildPlugin(values.tag, values.base);
  }
  if (command !== 'push' && command !== 'install') throw new InvalidArgument(usage);
  if (values.registry === undefined)
    throw new InvalidArgument(`say where the registry is: --registry HOST[:PORT]\n${usage}`);
  const reference = `${values.registry}/varve:${values.tag}`;
  if (command === 'push') return pushPlugin(reference);
  return installPlugin(reference, values.alias ?? reference, settings);
}

await main().catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
