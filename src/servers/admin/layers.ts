import { type Request, Router } from 'express';
import type { LayerImporter } from '../../core/layers/importer.ts';
import type { FoundLayer, LayerInspector } from '../../core/layers/inspector.ts';
import { InvalidArgument } from '../../errors/errors.ts';
import { received, sendArchive, sendLines, whenClosed } from './streams.ts';

export interface LayerParts {
  readonly layers: LayerInspector;
  readonly importer: LayerImporter;
}

/** What `varve layer` asks. Names stand percent-encoded in the path: they hold slashes, colons and spaces. */
export function layerRouter({ layers, importer }: LayerParts): Router {
  const router = Router();
  const found = (request: Request<{ name: string }>) =>
    layers.find(request.params.name, text(request, 'store'));

  router.get('/v1/layers', async (request, response) => {
    response.json(await layers.list(text(request, 'store'), texts(request, 'filter')));
  });
  router.post('/v1/layers', async (request, response) => {
    const wanted = { ...given('name', request), ...given('parent', request) };
    const store = text(request, 'store') ?? 'default';
    const work = { signal: whenClosed(response) };
    const made = await importer.import({ store, ...wanted }, received(request, response), work);
    response.status(201).json(made);
  });
  router.get('/v1/layers-usage', async (request, response) => {
    response.json(await layers.space(text(request, 'store'), whenClosed(response)));
  });
  router.post('/v1/layers-gc', async (request, response) => {
    const store = text(request, 'store');
    const isDryRun = text(request, 'dryRun') === 'true';
    response.json(await (isDryRun ? layers.garbage(store) : layers.collect(store)));
  });

  router.get('/v1/layers/:name', async (request, response) => {
    response.json(await layers.details(request.params.name, text(request, 'store')));
  });
  router.delete('/v1/layers/:name', async (request, response) => {
    const { store, info } = await layers.findToRemove(request.params.name, text(request, 'store'));
    await store.remove(info.name);
    response.status(204).end();
  });
  router.post('/v1/layers/:name/verify', async (request, response) => {
    const { store, info } = await found(request);
    await sendLines(response, work => store.verify(info.name, work));
  });
  router.get('/v1/layers/:name/changes', async (request, response) => {
    const layer = await found(request);
    const base = await baseOf(request, layer, layers);
    const work = { signal: whenClosed(response) };
    response.json(await layer.store.changes(base, layer.info.name, work));
  });
  router.get('/v1/layers/:name/diff', async (request, response) => {
    const layer = await found(request);
    const base = await baseOf(request, layer, layers);
    const work = { signal: whenClosed(response) };
    await sendArchive(response, await layer.store.diff(base, layer.info.name, work));
  });
  router.get('/v1/layers/:name/original', async (request, response) => {
    const { store, info } = await found(request);
    const work = { signal: whenClosed(response) };
    await sendArchive(response, await store.original(info.name, work));
  });
  return router;
}

/** What a layer is compared with: its parent, unless another one is named, or with an empty name nothing. */
async function baseOf(
  request: Request,
  { info, storeName }: FoundLayer,
  layers: LayerInspector,
): Promise<string | null> {
  const base = text(request, 'base');
  if (base === undefined) return info.parent;
  return base === '' ? null : (await layers.find(base, storeName)).info.name;
}

function texts(request: Request, name: string): readonly string[] {
  const value = request.query[name] ?? [];
  const all: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (all.every(item => typeof item === 'string')) return all;
  throw new InvalidArgument(`the query ${name} is not a text; send it as ${name}=TEXT`);
}

function text(request: Request, name: string): string | undefined {
  const [first, second] = texts(request, name);
  if (second === undefined) return first;
  throw new InvalidArgument(`the query ${name} is given twice; send it once`);
}

function given<Name extends string>(name: Name, request: Request): { readonly [name in Name]?: string } {
  const value = text(request, name);
  return (value === undefined ? {} : { [name]: value }) as { readonly [name in Name]?: string };
}
