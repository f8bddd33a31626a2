import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { stateDirectory } from '../../../scripts/lib/paths.ts';
import { bundle, treeWorker } from '../../../scripts/lib/stage.ts';
import type { LayerInfo, LayerStore } from '../../../src/core/layers/layer-store.ts';
import type { LayersRebuilt } from '../../../src/core/layers/rebuild.ts';
import type { Layers } from '../../../src/core/layers/store.ts';
import type { Mount } from '../../../src/core/mount.ts';
import { environment } from '../../support/daemon.ts';
import type { StorePlace } from './real-store.ts';

export interface Request {
  readonly id: number;
  readonly command: string;
  readonly args: readonly unknown[];
}

export interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: { readonly name: string; readonly message: string };
}

/** What a store in another process can be asked for: everything but streams. */
export interface RemoteStore
  extends Pick<
    LayerStore,
    | 'prepare'
    | 'view'
    | 'mounts'
    | 'commit'
    | 'sync'
    | 'freeze'
    | 'merge'
    | 'remove'
    | 'stat'
    | 'update'
    | 'cleanup'
    | 'apply'
    | 'verify'
  > {
  walk(): Promise<readonly LayerInfo[]>;
  /** @returns of how many pieces it is */
  original(name: string): Promise<number>;
  limit: Layers['limit'];
  strays(): ReturnType<Layers['strays']>;
  /** @returns what it wrote to the log */
  open(place: StorePlace): Promise<readonly string[]>;
  close(): Promise<void>;
  rebuild(place: StorePlace): Promise<LayersRebuilt>;
  mount(mount: Mount): Promise<void>;
}

/** Rejects what was not answered by a process that has died. */
class Died extends Error {
  override readonly name = 'Died';
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** At the depth of its sources, which look for the files of the checkout from there. */
const directory = join(stateDirectory, 'tests');
let made: Promise<unknown> | undefined;

/** Makes the program of {@link LayerProcess}: from its sources, hundreds of processes would take minutes to start. */
export async function makeLayerProgram(): Promise<void> {
  made ??= bundle(directory, { child: 'test/crash/layers/child.ts', ...treeWorker });
  await made;
}

/** A process with a layer store that a fault point can kill. {@link makeLayerProgram} comes first. */
export class LayerProcess {
  readonly store: RemoteStore;
  /** The signal that ended it, once it has ended. */
  readonly ended: Promise<string | null>;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #requests = 0;

  /** @param faults as `VARVE_FAULTS` names it */
  constructor(faults: string) {
    this.#child = fork(join(directory, 'child.js'), [], {
      env: { ...environment, VARVE_FAULTS: faults, NODE_COMPILE_CACHE: `${faults}.cache` },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child.on('message', reply => this.#settle(reply as Reply));
    this.ended = once(this.#child, 'exit').then(([code, signal]) => {
      for (const { reject } of this.#waiting.values())
        reject(new Died(`the process ended: ${signal ?? code}`));
      this.#waiting.clear();
      return signal as string | null;
    });
    this.store = new Proxy({} as RemoteStore, {
      get:
        (_, command) =>
        (...args: readonly unknown[]) =>
          this.#ask(String(command), args),
    });
  }

  async kill9(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  #ask(command: string, args: readonly unknown[]): Promise<unknown> {
    this.#requests += 1;
    const id = this.#requests;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, command, args }, error => {
        if (error !== null) reject(new Died(error.message));
      });
    });
  }

  #settle({ id, result, error }: Reply): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(Object.assign(new Error(error.message), { name: error.name }));
  }
}
