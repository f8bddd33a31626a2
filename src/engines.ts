/** Which parts know engines from the side: their configuration, and who they are for the layers that they keep. */
import type { Config } from './config/schema.ts';
import * as checking from './core/engine-setup/check.ts';
import type { EngineFaces, SetupRequest } from './core/engine-setup/host.ts';
import * as setup from './core/engine-setup/setup.ts';
import type { EngineName, EngineReport, EngineSetup } from './core/engine-setup/view.ts';
import type { LayerEngine } from './core/layers/users.ts';
import { ContainerdLayers } from './host/linux/containerd-layers.ts';
import { DockerLayers } from './host/linux/docker-layers.ts';
import { DockerEngine } from './host/linux/engine.ts';
import { engineHost, engineQuestions } from './host/linux/engine-host.ts';

/** @throws InvalidArgument, NotFound, FailedPrecondition; nothing is written then */
export function setUpEngine(config: Config, request: SetupRequest): Promise<EngineSetup> {
  return setup.setUpEngine(facesOf(config), request, engineHost, engineQuestions);
}

/** Every containerd that the configuration names, and Docker. @param only leaves out the others */
export function checkEngines(config: Config, only?: EngineName): Promise<readonly EngineReport[]> {
  return checking.checkEngines(facesOf(config), { ...engineQuestions, find: engineHost.find }, only);
}

function facesOf({ engine, snapshotters, drivers, layerStores }: Config): EngineFaces {
  const graphDrivers = Object.entries(drivers).filter(([, { layerStore }]) => layerStore !== undefined);
  return {
    // A daemon that is to ask nobody has an engine for this all the same.
    docker: engine === 'none' ? 'unix:///var/run/docker.sock' : engine,
    snapshotters: Object.fromEntries(
      Object.entries(snapshotters).map(([name, { socket, containerd, layerStore }]) => {
        return [name, { socket, containerd, root: layerStores[layerStore]?.path ?? '' }];
      }),
    ),
    graphDrivers: Object.fromEntries(graphDrivers),
  };
}

/** How long a person waits for an engine that does not answer, in milliseconds. */
const patience = 5000;

/** The engines that own layer stores, by the name of the store. */
export function composeLayerEngines(config: Config): Readonly<Record<string, LayerEngine>> {
  const docker = config.engine === 'none' ? undefined : new DockerEngine(config.engine, patience);
  // Without Docker, or behind another engine, names are those of containerd.
  const names = async () =>
    (await docker?.containerNames().catch(() => undefined)) ?? new Map<string, string>();
  const snapshotters = Object.entries(config.snapshotters).map(
    ([snapshotter, { layerStore, containerd }]) => {
      return [layerStore, new ContainerdLayers({ address: containerd, snapshotter, names })] as const;
    },
  );
  const drivers = Object.values(config.drivers).flatMap(({ layerStore }) =>
    docker === undefined || layerStore === undefined
      ? []
      : [[layerStore, new DockerLayers(docker, layerStore)] as const],
  );
  return Object.fromEntries([...snapshotters, ...drivers]);
}
