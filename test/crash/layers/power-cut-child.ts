/** A process whose clients work on a layer store until it cuts the power of the disk, and dies. */
import { appendFileSync } from 'node:fs';
import { cutPower } from '../../support/power-cut-disk.ts';
import { KnownLayers, perform, type Work, WorkPlan } from './power-cut-work.ts';
import { openRealStore, type StorePlace } from './real-store.ts';

/** When the power goes: at the first answer to a step of this name after so many answers of any kind. */
export interface Moment {
  readonly clients: number;
  readonly after: number;
  readonly at: Work['step'];
}

export interface PowerCutTask {
  readonly place: StorePlace;
  readonly mountPoint: string;
  readonly archives: readonly string[];
  /** A file on another disk: what was asked for, and what was answered. */
  readonly journal: string;
  readonly moment: Moment;
  readonly seed: number;
}

export interface JournalLine {
  readonly client: number;
  readonly work: Work;
  readonly isAnswered: boolean;
}

const task = JSON.parse(process.argv[2] ?? '') as PowerCutTask;
const { store } = await openRealStore(task.place);
let answers = 0;

function write(line: JournalLine): void {
  appendFileSync(task.journal, `${JSON.stringify(line)}\n`);
}

async function work(client: number): Promise<void> {
  const known = new KnownLayers();
  const plan = new WorkPlan(`c${client}`, task.seed + client, task.archives.length);
  for (;;) {
    const next = plan.next(known);
    write({ client, work: next, isAnswered: false });
    await perform(store, next, task.archives);
    answers += 1;
    // In the same turn as the answer: what is not on the disk by now never will be.
    if (answers >= task.moment.after && next.step === task.moment.at) cutPower(task.mountPoint);
    write({ client, work: next, isAnswered: true });
    if (answers >= task.moment.after && next.step === task.moment.at) process.kill(process.pid, 'SIGKILL');
    known.answered(next);
  }
}

await Promise.all(Array.from({ length: task.moment.clients }, (_, client) => work(client)));
