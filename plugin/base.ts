import { debianTar } from '../scripts/lib/debian-tree.ts';
import { stageNode } from '../scripts/lib/stage.ts';
import { docker, lastLine, tryDocker } from './docker.ts';

/** The public image, as the Dockerfile has it. */
const publicImage = 'node:24-bookworm-slim';
/** What an engine calls the base that is made here. */
const ownImage = 'varve-base:debian';
/** The Debian packages of the programs that plugin/image/collect.ts takes, besides the essential ones. */
const packages = ['e2fsprogs', 'xfsprogs', 'btrfs-progs'];

/** What the image is built from. */
export interface Base {
  readonly image: string;
  /** Why it was taken, for the user. */
  readonly reason: string;
  /** Whether the build may fetch the Debian packages that the base lacks. */
  readonly network: boolean;
}

/**
 * @param wanted an image, `debootstrap`, or undefined: the public image where the engine has it or can get it
 * @param nodePath where a Node is put for a base that has none
 */
export async function prepareBase(
  wanted: string | undefined,
  nodePath: string,
  onProgress: (text: string) => void,
  interrupted: AbortSignal,
): Promise<Base> {
  if (wanted !== undefined && wanted !== 'debootstrap')
    return { image: wanted, reason: 'as asked for', network: true };
  if (wanted === undefined && (await isAvailable(publicImage, onProgress)))
    return { image: publicImage, reason: 'the public image', network: true };
  interrupted.throwIfAborted();
  onProgress('laying out a Debian with debootstrap, which takes a minute when it was never done here');
  const tar = await debianTar(packages);
  onProgress('importing it');
  await docker(['import', tar, ownImage]);
  await stageNode(nodePath);
  const reason =
    wanted === undefined ? `made with debootstrap: ${publicImage} is out of reach` : 'made with debootstrap';
  return { image: ownImage, reason, network: false };
}

async function isAvailable(image: string, onProgress: (text: string) => void): Promise<boolean> {
  if ((await tryDocker(['image', 'inspect', image])).exitCode === 0) return true;
  onProgress(`pulling ${image}`);
  return (await tryDocker(['pull', image], { onOutput: lastLine(onProgress) })).exitCode === 0;
}
