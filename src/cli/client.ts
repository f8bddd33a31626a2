import type { StateExport, StateFinding, StatusView, VolumeView } from '../core/volumes/view.ts';
import { connectTo, type Patience } from './http.ts';
import { type LayerClient, layerClient } from './layer-client.ts';

export interface VolumeRequest {
  readonly name: string;
  readonly options: Readonly<Record<string, string>>;
  readonly driver?: string;
}

/** The daemon's admin API. Every call rejects with the error class that the daemon named, or with Unavailable. */
export interface AdminClient {
  volumes(): Promise<readonly VolumeView[]>;
  volume(name: string): Promise<VolumeView>;
  /** Returns while a copy goes on: the phase is then `Creating`. */
  createVolume(volume: VolumeRequest): Promise<VolumeView>;
  removeVolume(name: string): Promise<void>;
  protectVolume(name: string, wanted: boolean): Promise<VolumeView>;
  /** Walks the volume, so that its usage is fresh. */
  measureVolume(name: string): Promise<VolumeView>;
  readonly layers: LayerClient;
  status(): Promise<StatusView>;
  exportState(): Promise<StateExport>;
  checkState(repair: boolean): Promise<readonly StateFinding[]>;
}

/** A client of the daemon that listens on a unix socket. */
export function adminClient(
  socketPath: string,
  patience: Patience = { promptly: 30_000, patiently: 3_600_000 },
): AdminClient {
  const connection = connectTo(socketPath, patience);
  const { call } = connection;
  const at = (name: string) => `/v1/volumes/${encodeURIComponent(name)}`;
  return {
    volumes: () => call('GET', '/v1/volumes'),
    volume: name => call('GET', at(name)),
    createVolume: volume => call('POST', '/v1/volumes', { body: volume }),
    removeVolume: name => call('DELETE', at(name)),
    protectVolume: (name, wanted) => call('POST', `${at(name)}/${wanted ? 'protect' : 'unprotect'}`),
    measureVolume: name => call('POST', `${at(name)}/measure`, { isSlow: true }),
    layers: layerClient(connection),
    status: () => call('GET', '/v1/status'),
    exportState: () => call('GET', '/v1/state/export'),
    checkState: repair => call('POST', `/v1/state/check?repair=${repair}`, { isSlow: true }),
  };
}
