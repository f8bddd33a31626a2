import { cp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from '../scripts/lib/paths.ts';
import { stageProgram } from '../scripts/lib/stage.ts';
import { runSteps } from '../scripts/lib/steps.ts';
import { Exhausted } from '../src/errors/errors.ts';
import { type Base, prepareBase } from './base.ts';
import { docker, lastLine } from './docker.ts';
import { manifest, pluginDirectory } from './files.ts';
import { alone } from './lock.ts';
import { unpackImage } from './unpack.ts';

/** As it is pushed and pulled, in bytes. */
const maxCompressedSize = 70_000_000;

/**
 * Builds the image `varve:TAG`, and of it the root filesystem of the plugin.
 * @param wanted the base image; see {@link prepareBase}
 * @throws Exhausted when it is too big to ask anybody to download
 */
export async function buildPlugin(tag: string, wanted: string | undefined): Promise<void> {
  const directory = `${pluginDirectory}.new`;
  const discard = () => rm(directory, { recursive: true, force: true });
  await alone(async () => {
    // A build that was killed leaves it.
    await discard();
    try {
      await buildIn(directory, `varve:${tag}`, wanted);
      await rm(pluginDirectory, { recursive: true, force: true });
      await rename(directory, pluginDirectory);
    } finally {
      await discard();
    }
  });
}

async function buildIn(directory: string, image: string, wanted: string | undefined): Promise<void> {
  const context = join(directory, 'context');
  let base: Base | undefined;
  await runSteps([
    ['Program', () => stage(context)],
    [
      'Base',
      async (onProgress, interrupted) => {
        base = await prepareBase(wanted, join(context, 'bin/node'), onProgress, interrupted);
        return `${base.image}, ${base.reason}`;
      },
    ],
    ['Image', onProgress => buildImage(context, image, base as Base, onProgress)],
    ['Root filesystem', () => unpack(image, join(directory, 'rootfs'))],
  ]);
  await rm(context, { recursive: true });
  await cp(manifest, join(directory, 'config.json'));
}

async function stage(context: string): Promise<string> {
  await stageProgram(join(context, 'program'));
  await cp(join(repository, 'plugin/image'), join(context, 'image'), { recursive: true });
  return 'bundled';
}

async function buildImage(
  context: string,
  image: string,
  { image: base, network }: Base,
  onProgress: (text: string) => void,
): Promise<string> {
  const options = ['--file', join(repository, 'Dockerfile'), '--build-arg', `BASE=${base}`, '--tag', image];
  const offline = network ? [] : ['--network', 'none'];
  await docker(['build', ...options, ...offline, context], { onOutput: lastLine(onProgress) });
  return image;
}

async function unpack(image: string, directory: string): Promise<string> {
  const size = await unpackImage(image, directory);
  const text = `${inMegabytes(size)} compressed, at most ${inMegabytes(maxCompressedSize)}`;
  if (size > maxCompressedSize) throw new Exhausted(`the root filesystem is too big: ${text}`);
  return text;
}

function inMegabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
