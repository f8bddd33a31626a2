import express, { type Express, type Request, type Response } from 'express';
import { type DriverName, parseDriverName, parseVolumeName, show } from '../../core/names.ts';
import type { Driver } from '../../core/volumes/driver.ts';
import type { Inventory } from '../../core/volumes/inventory.ts';
import type { Meter } from '../../core/volumes/meter.ts';
import type { VolumeService } from '../../core/volumes/service.ts';
import { checkState, exportState, type StateParts } from '../../core/volumes/state.ts';
import type { StatusView, VolumeView } from '../../core/volumes/view.ts';
import { InvalidArgument, NotFound } from '../../errors/errors.ts';
import { toHttp } from '../../errors/to-http.ts';
import { type LayerParts, layerRouter } from './layers.ts';
import { whenClosed } from './streams.ts';

export interface AdminParts extends LayerParts {
  readonly service: VolumeService;
  readonly inventory: Inventory;
  readonly meter: Meter;
  readonly state: StateParts;
  readonly drivers: readonly Driver[];
  readonly status: () => StatusView;
  /** Requests wait for this: the socket is bound before the state is loaded. */
  readonly ready: Promise<void>;
}

/** The admin socket: what the `varve` command asks, as JSON over HTTP; archives of layers are sent as they are. */
export function adminApp(parts: AdminParts): Express {
  const { service, inventory, status, state } = parts;
  const app = express();
  app.disable('x-powered-by').disable('etag');
  app.use(async (_request, _response, next) => {
    await parts.ready;
    next();
  });
  app.use(layerRouter(parts));
  app.use(express.json({ type: () => true, limit: '1mb' }));

  app.get('/v1/status', (_request, response) => void response.json(status()));
  app.get('/v1/volumes', (_request, response) => void response.json(inventory.volumes()));
  app.post('/v1/volumes', async (request, response) => {
    response.status(201).json(await createVolume(parts, request.body));
  });
  app.get('/v1/volumes/:name', (request, response) => {
    response.json(inventory.volume(parseVolumeName(request.params.name)));
  });
  app.delete('/v1/volumes/:name', async (request, response) => {
    await service.remove(parseVolumeName(request.params.name), 'person');
    response.status(204).end();
  });
  for (const [verb, isProtected] of [
    ['protect', true],
    ['unprotect', false],
  ] as const) {
    app.post(`/v1/volumes/:name/${verb}`, async (request, response) => {
      const name = parseVolumeName(request.params.name);
      await service.protect(name, isProtected);
      response.json(inventory.volume(name));
    });
  }
  app.post('/v1/volumes/:name/measure', async (request, response) => {
    response.json(await measureVolume(parts, request.params.name, whenClosed(response)));
  });
  app.get('/v1/state/export', async (_request, response) => void response.json(await exportState(state)));
  app.post('/v1/state/check', async (request, response) => {
    response.json(await checkState(state, request.query['repair'] === 'true'));
  });

  app.use((request: Request) => {
    throw new NotFound(`the admin socket has no ${request.method} ${show(request.path)}`);
  });
  app.use((error: unknown, _request: Request, response: Response, _next: unknown) => {
    if (response.headersSent || response.destroyed) return void response.destroy();
    const { status: code, body } = toHttp(isBadRequest(error) ? new InvalidArgument(error.message) : error);
    response.status(code).json(body);
  });
  return app;
}

/** How long Create waits for a copy, in milliseconds: the command shows how far a longer one is. */
const copyMs = 500;

async function createVolume({ service, inventory, drivers }: AdminParts, body: unknown): Promise<VolumeView> {
  const { name: rawName, options, driver } = (body ?? {}) as Record<string, unknown>;
  const name = parseVolumeName(rawName);
  const found = findDriver(drivers, parseDriverName(driver ?? 'varve'));
  await service.create(name, found, parseTexts(options), copyMs);
  return inventory.volume(name);
}

async function measureVolume(
  { service, inventory, meter }: AdminParts,
  rawName: string,
  signal: AbortSignal,
): Promise<VolumeView> {
  const name = parseVolumeName(rawName);
  const volume = service.get(name);
  if ('record' in volume) await meter.measure(volume, signal);
  return inventory.volume(name);
}

function findDriver(drivers: readonly Driver[], name: DriverName): Driver {
  const driver = drivers.find(candidate => candidate.name === name);
  if (driver !== undefined) return driver;
  throw new NotFound(
    `no such driver: ${name}; the drivers are: ${drivers.map(known => known.name).join(', ')}`,
  );
}

/** @throws InvalidArgument */
function parseTexts(raw: unknown): Record<string, string> {
  const options = raw ?? {};
  const isTexts =
    typeof options === 'object' && Object.values(options).every(value => typeof value === 'string');
  if (!isTexts) throw new InvalidArgument(`options ${show(raw)} is not an object of texts`);
  return options as Record<string, string>;
}

/** A body, a charset or a path that Express cannot read; it says so with a status of its own. */
function isBadRequest(error: unknown): error is Error {
  if (!(error instanceof Error && 'status' in error)) return false;
  return typeof error.status === 'number' && error.status >= 400 && error.status < 500;
}
