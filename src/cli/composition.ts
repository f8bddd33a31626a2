import type { Config } from '../config/schema.ts';
import type { RebuildReport } from '../core/volumes/rebuild.ts';
import type { DoctorFinding } from '../core/volumes/view.ts';

/** The commands that are the daemon, or work without it. */
export interface Composition {
  /** Runs until a signal ends it. */
  runDaemon(config: Config): Promise<void>;
  /** Restores the records from the disk. @throws FailedPrecondition when the daemon runs */
  rebuildState(config: Config, onProgress: (message: string) => void): Promise<RebuildReport>;
  examineHost(config: Config): Promise<DoctorFinding[]>;
}

/** The composition root, which is too heavy to load for a command that only asks the daemon. */
export async function loadComposition(): Promise<Composition> {
  return import('../main.ts');
}
