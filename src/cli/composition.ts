import type { Config } from '../config/schema.ts';
import type { SetupRequest } from '../core/engine-setup/host.ts';
import type { EngineName, EngineReport, EngineSetup } from '../core/engine-setup/view.ts';
import type { RebuildReport } from '../core/volumes/rebuild.ts';
import type { DoctorFinding } from '../core/volumes/view.ts';

/** The commands that are the daemon, or work without it. */
export interface Composition {
  /** Runs until a signal ends it. */
  runDaemon(config: Config): Promise<void>;
  /** Restores the records from the disk. @throws FailedPrecondition when the daemon runs */
  rebuildState(config: Config, onProgress: (message: string) => void): Promise<RebuildReport>;
  examineHost(config: Config): Promise<DoctorFinding[]>;
  /** Writes what makes an engine store on varve. @throws FailedPrecondition when that cannot be; nothing is written then */
  setUpEngine(config: Config, request: SetupRequest): Promise<EngineSetup>;
  /** Asks the engines themselves. Without a name, all of them. */
  checkEngines(config: Config, only?: EngineName): Promise<readonly EngineReport[]>;
}

/** The composition root, which is too heavy to load for a command that only asks the daemon. */
export async function loadComposition(): Promise<Composition> {
  return import('../main.ts');
}
