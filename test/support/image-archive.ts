import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { link, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { must } from '../../scripts/lib/process.ts';

export interface ImageArchive {
  readonly path: string;
  /** The digest of the manifest, `sha256:...`. */
  readonly manifest: string;
  /** The digests of the layers as they are without compression: `sha256:...`. */
  readonly diffIds: readonly string[];
  /** What its topmost snapshot is called: the ChainID of the OCI image spec (config.md). */
  readonly chainId: string;
}

const types = {
  layer: 'application/vnd.oci.image.layer.v1.tar',
  gzipLayer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  config: 'application/vnd.oci.image.config.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
};

/**
 * Makes an archive of an image that both `ctr images import` and `docker load` take (OCI image spec, image-layout.md;
 * `manifest.json` is Docker's).
 * @param path of the archive, on the file system of the layers @param layers archives, not compressed, the lowest first
 * @param options `gzip` compresses them
 */
export async function makeImageArchive(
  path: string,
  name: string,
  layers: readonly string[],
  { gzip = false }: { readonly gzip?: boolean } = {},
): Promise<ImageArchive> {
  const layout = `${path}.layout`;
  const blobs = join(layout, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  try {
    const placed = [];
    for (const layer of layers) placed.push(await (gzip ? placeCompressed : placeLayer)(blobs, layer));
    const diffIds = await Promise.all(layers.map(async layer => `sha256:${await hexOf(layer)}`));
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
    const rootfs = { type: 'layers', diff_ids: diffIds };
    const run = { Cmd: ['sh'], Env: ['PATH=/bin'] };
    const config = await placeJson(blobs, types.config, { os: 'linux', architecture, config: run, rootfs });
    const contents = { schemaVersion: 2, mediaType: types.manifest, config, layers: placed };
    const manifest = await placeJson(blobs, types.manifest, contents);
    const named = { ...manifest, annotations: { 'io.containerd.image.name': name } };
    const index = { schemaVersion: 2, mediaType: types.index, manifests: [named] };
    const docker = [{ Config: blob(config), RepoTags: [name], Layers: placed.map(blob) }];
    await writeFile(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    await writeFile(join(layout, 'index.json'), JSON.stringify(index));
    await writeFile(join(layout, 'manifest.json'), JSON.stringify(docker));
    const names = ['oci-layout', 'index.json', 'manifest.json', 'blobs'];
    await must('tar', ['--create', `--file=${path}`, `--directory=${layout}`, ...names]);
    return { path, manifest: manifest.digest, diffIds, chainId: diffIds.reduce(chain) };
  } finally {
    await rm(layout, { recursive: true, force: true });
  }
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

async function placeLayer(blobs: string, layer: string): Promise<Descriptor> {
  const hex = await hexOf(layer);
  // Two layers may be the same.
  await rm(join(blobs, hex), { force: true });
  await link(layer, join(blobs, hex));
  return { mediaType: types.layer, digest: `sha256:${hex}`, size: (await stat(layer)).size };
}

async function placeCompressed(blobs: string, layer: string): Promise<Descriptor> {
  const compressed = join(blobs, 'compressed');
  await pipeline(createReadStream(layer), createGzip({ level: 1 }), createWriteStream(compressed));
  const hex = await hexOf(compressed);
  await rename(compressed, join(blobs, hex));
  const { size } = await stat(join(blobs, hex));
  return { mediaType: types.gzipLayer, digest: `sha256:${hex}`, size };
}

function chain(below: string, diffId: string): string {
  return `sha256:${createHash('sha256').update(`${below} ${diffId}`).digest('hex')}`;
}

async function hexOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

async function placeJson(blobs: string, mediaType: string, value: unknown): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(join(blobs, hex), bytes);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

/** Where a blob is in the archive. */
function blob({ digest }: Descriptor): string {
  return join('blobs', digest.replace(':', '/'));
}
