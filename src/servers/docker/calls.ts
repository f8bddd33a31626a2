import type { GraphLayers } from '../../core/layers/graph.ts';
import { parseMountId, parseVolumeName, show } from '../../core/names.ts';
import { statusOf } from '../../core/volumes/describe.ts';
import type { Driver } from '../../core/volumes/driver.ts';
import type { Inventory } from '../../core/volumes/inventory.ts';
import type { VolumeService } from '../../core/volumes/service.ts';
import type { VolumeView } from '../../core/volumes/view.ts';
import { InvalidArgument } from '../../errors/errors.ts';

/** A request body: whatever was sent, not yet believed. */
export type Body = Readonly<Record<string, unknown>>;

export interface VolumeDriverParts {
  readonly driver: Driver;
  readonly service: VolumeService;
  readonly inventory: Inventory;
  /** The layers of the engine, where the driver serves them too. */
  readonly graph?: GraphLayers | undefined;
  /** The engine has started anew, and may know things that we should learn. */
  readonly onActivate: () => void;
}

type Call = (body: Body, peer: number | undefined) => Promise<object>;

/**
 * The calls of a volume plugin by their wire names (docker/cli, docs/extend/plugins_volume.md). An empty body,
 * which dockerd sends when it repeats a request, has no Name and is refused by every call that changes something.
 */
export function volumeCalls(parts: VolumeDriverParts): Record<string, Call> {
  const { driver, service, inventory, graph } = parts;
  const mountPointOf = (name: unknown): string =>
    inventory.volume(parseVolumeName(name), driver.name).mountPoint;

  return {
    'Plugin.Activate': async () => {
      await engineStarted(parts);
      return { Implements: ['VolumeDriver', ...(graph === undefined ? [] : ['GraphDriver'])] };
    },
    'VolumeDriver.Capabilities': async () => ({ Capabilities: { Scope: 'local' } }),
    'VolumeDriver.Create': async body => {
      await service.create(parseVolumeName(body['Name']), driver, parseOpts(body['Opts']));
      return {};
    },
    'VolumeDriver.Remove': async body => {
      const name = parseVolumeName(body['Name']);
      service.get(name, driver.name);
      await service.remove(name, 'engine');
      return {};
    },
    'VolumeDriver.Mount': async (body, peer) => {
      const name = parseVolumeName(body['Name']);
      const id = parseMountId(body['ID']);
      service.get(name, driver.name);
      return { Mountpoint: await service.mount(name, id, peer) };
    },
    'VolumeDriver.Unmount': async body => {
      const name = parseVolumeName(body['Name']);
      const id = parseMountId(body['ID']);
      service.get(name, driver.name);
      await service.unmount(name, id);
      return {};
    },
    'VolumeDriver.Path': async body => ({ Mountpoint: mountPointOf(body['Name']) }),
    'VolumeDriver.Get': async body => {
      const view = inventory.volume(parseVolumeName(body['Name']), driver.name);
      return { Volume: { ...summary(view), CreatedAt: view.createdAt, Status: statusOf(view) } };
    },
    'VolumeDriver.List': async () => ({ Volumes: inventory.volumes(driver.name).map(summary) }),
  };
}

/** The engine has started anew: its consumers are doubted, and what it knows is asked for. */
export async function engineStarted({ service, driver, onActivate }: VolumeDriverParts): Promise<void> {
  await service.activate(driver.name);
  onActivate();
}

function summary({ name, mountPoint }: VolumeView): object {
  return { Name: name, Mountpoint: mountPoint };
}

/** @throws InvalidArgument */
function parseOpts(raw: unknown): Record<string, string> {
  if (raw === null || raw === undefined) return {};
  if (typeof raw !== 'object' || Array.isArray(raw))
    throw new InvalidArgument(`Opts ${show(raw)} is not an object`);
  for (const [name, value] of Object.entries(raw)) {
    if (typeof value !== 'string')
      throw new InvalidArgument(`option ${show(name)} is not a text but ${show(value)}`);
  }
  return raw as Record<string, string>;
}
