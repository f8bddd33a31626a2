/**
 * How the content of new files reaches the worker that writes it, while another one reads the archive and makes what
 * comes next. What is handed over is an open file, so that no name and no order of names is the writer's business:
 * it gets its content and attributes, and what became of it comes back, in the same order.
 *
 * In the ring stands for each file a head (see {@link FileHead}), then pieces, each with its offset and length, and a
 * piece of length 0 at the end.
 */
import { closeSync } from 'node:fs';

import type { FileTime } from '../../../host/linux/file-calls.ts';
import { cancelled } from '../../../lib/worker-pool.ts';
import type { Piece } from '../../../tar/content.ts';
import { bytesOfPath } from './apply-names.ts';
import { makeRing, type Ring, RingReader, RingWriter } from './ring.ts';

/** Files that are under way, each with its descriptor. */
const maxPending = 256;
/** After so many the writer is told: waking a thread costs more than to write a small file. */
const batch = 64;
/** How long a thread sleeps until it looks whether it is to stop. */
const patienceMs = 200;
const headBytes = 48;
const pieceBytes = 16;
const answerBytes = 32;

/** Places in the shared numbers. */
const [done, wanted, failed, ready] = [0, 1, 2, 3];

export interface FileQueue {
  readonly ring: Ring;
  readonly numbers: Int32Array;
  readonly answers: SharedArrayBuffer;
}

/** What a new file is to be. */
export interface FileHead {
  /** Open for writing, and without content. */
  readonly fd: number;
  /** Within the layer. */
  readonly path: string;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: FileTime;
}

/** What a file became; numbers as in `DigestRecord`. */
export interface FileAnswer {
  readonly content: number;
  readonly attributes: number;
  readonly size: number;
  readonly ctimeNs: bigint;
  readonly ino: bigint;
}

/** Takes 4 MiB, until nobody knows it any more. */
export function makeFileQueue(): FileQueue {
  return {
    ring: makeRing(),
    numbers: new Int32Array(new SharedArrayBuffer(16)),
    answers: new SharedArrayBuffer(maxPending * answerBytes),
  };
}

/** The end of who reads the archive. */
export class FileSender {
  readonly #ring: RingWriter;
  readonly #numbers: Int32Array;
  readonly #answers: Buffer;
  readonly #checkpoint: () => void;
  readonly #onAnswer: (path: string, answer: FileAnswer) => void;
  readonly #head = Buffer.alloc(headBytes);
  readonly #piece = Buffer.alloc(pieceBytes);
  /** Paths of the files that are under way, by their number modulo its length. */
  readonly #paths = new Array<string>(maxPending).fill('');
  #sent = 0;
  #answered = 0;

  /** @param checkpoint throws when the work is to stop @param onAnswer is told each file, in their order */
  constructor(
    { ring, numbers, answers }: FileQueue,
    checkpoint: () => void,
    onAnswer: (path: string, answer: FileAnswer) => void,
  ) {
    this.#ring = new RingWriter(ring, checkpoint);
    this.#numbers = numbers;
    this.#answers = Buffer.from(answers);
    this.#checkpoint = checkpoint;
    this.#onAnswer = onAnswer;
  }

  /** Hands a file over, which the other end closes; waits while too many are under way. @throws Aborted */
  send(head: FileHead, pieces: Iterable<Piece>): void {
    try {
      if (this.#sent === 0) this.#waitForReceiver();
      if (this.#sent - this.#answered === maxPending) this.#waitFor(this.#sent - maxPending / 2);
      this.#writeHead(head);
    } catch (error) {
      closeSync(head.fd);
      throw error;
    }
    for (const { offset, data } of pieces) {
      this.#writePiece(offset, data.length);
      this.#ring.write(data);
    }
    this.#writePiece(0, 0);
    this.#paths[this.#sent % maxPending] = head.path;
    this.#sent += 1;
    if (this.#sent % batch === 0) this.#ring.flush();
  }

  /** Waits until nothing is under way. @throws Aborted when the other end failed */
  settle(): void {
    if (this.#answered < this.#sent) this.#waitFor(this.#sent);
  }

  /** Nothing more will come. */
  end(): void {
    this.#ring.end();
  }

  /** One that never starts closes nothing. */
  #waitForReceiver(): void {
    while (Atomics.load(this.#numbers, ready) === 0) {
      this.#checkpoint();
      Atomics.wait(this.#numbers, ready, 0, patienceMs);
    }
  }

  #waitFor(count: number): void {
    this.#ring.flush();
    Atomics.store(this.#numbers, wanted, count);
    for (;;) {
      const now = Atomics.load(this.#numbers, done);
      while (this.#answered < now) this.#take();
      if (this.#answered >= count) return;
      this.#throwIfFailed();
      this.#checkpoint();
      Atomics.wait(this.#numbers, done, now, patienceMs);
    }
  }

  #take(): void {
    const index = this.#answered % maxPending;
    const [bytes, at] = [this.#answers, index * answerBytes];
    this.#answered += 1;
    this.#onAnswer(this.#paths[index] ?? '', {
      content: bytes.readUInt32LE(at),
      attributes: bytes.readUInt32LE(at + 4),
      size: bytes.readDoubleLE(at + 8),
      ctimeNs: bytes.readBigInt64LE(at + 16),
      ino: bytes.readBigUInt64LE(at + 24),
    });
  }

  #writeHead({ fd, path, size, mode, uid, gid, mtime }: FileHead): void {
    const head = this.#head;
    const name = bytesOfPath(path);
    head.writeInt32LE(fd, 0);
    head.writeUInt32LE(name.length, 4);
    head.writeDoubleLE(size, 8);
    head.writeUInt32LE(mode, 16);
    head.writeUInt32LE(uid, 20);
    head.writeUInt32LE(gid, 24);
    head.writeUInt32LE(mtime.nanoseconds, 28);
    head.writeDoubleLE(mtime.seconds, 32);
    this.#ring.write(Buffer.concat([head, name]));
  }

  #throwIfFailed(): void {
    if (Atomics.load(this.#numbers, failed) === 1) throw cancelled('apply');
  }

  #writePiece(offset: number, length: number): void {
    this.#throwIfFailed();
    this.#piece.writeDoubleLE(offset, 0);
    this.#piece.writeUInt32LE(length, 8);
    this.#ring.write(this.#piece);
  }
}

/** The end of who writes the files. */
export class FileReceiver {
  readonly #ring: RingReader;
  readonly #numbers: Int32Array;
  readonly #answers: Buffer;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  /** Whether there are pieces left of the last file. */
  #inFile = false;
  #answered = 0;

  constructor({ ring, numbers, answers }: FileQueue) {
    // It ends when the other end does, and not before: somebody has to close what is under way.
    this.#ring = new RingReader(ring, () => undefined);
    this.#numbers = numbers;
    this.#answers = Buffer.from(answers);
    Atomics.store(numbers, ready, 1);
    Atomics.notify(numbers, ready);
  }

  /** Passes over what is left of the last file. @returns undefined at the end */
  next(): FileHead | undefined {
    for (const _ of this.#left());
    const head = this.#exactly(headBytes);
    const name = head && this.#exactly(head.readUInt32LE(4));
    if (head === undefined || name === undefined) return undefined;
    this.#inFile = true;
    return {
      fd: head.readInt32LE(0),
      path: name.toString('latin1'),
      size: head.readDoubleLE(8),
      mode: head.readUInt32LE(16),
      uid: head.readUInt32LE(20),
      gid: head.readUInt32LE(24),
      mtime: { seconds: head.readDoubleLE(32), nanoseconds: head.readUInt32LE(28) },
    };
  }

  /** What has not been read yet of the file; each is valid until the next step. @throws Aborted when some is missing */
  *pieces(): Generator<Piece, void, void> {
    yield* this.#left();
    if (this.#inFile) throw cancelled('apply');
  }

  answer({ content, attributes, size, ctimeNs, ino }: FileAnswer): void {
    const [bytes, at] = [this.#answers, (this.#answered % maxPending) * answerBytes];
    bytes.writeUInt32LE(content, at);
    bytes.writeUInt32LE(attributes, at + 4);
    bytes.writeDoubleLE(size, at + 8);
    bytes.writeBigInt64LE(ctimeNs, at + 16);
    bytes.writeBigUInt64LE(ino, at + 24);
    this.#answered += 1;
    Atomics.store(this.#numbers, done, this.#answered);
    if (this.#answered === Atomics.load(this.#numbers, wanted)) Atomics.notify(this.#numbers, done);
  }

  /** Instead of {@link answer}; there are no more answers then. */
  fail(): void {
    Atomics.store(this.#numbers, failed, 1);
    Atomics.notify(this.#numbers, done);
  }

  /** Up to the end of the file, or of everything. */
  *#left(): Generator<Piece, void, void> {
    while (this.#inFile) {
      const piece = this.#exactly(pieceBytes);
      if (piece === undefined) return;
      const [offset, length] = [piece.readDoubleLE(0), piece.readUInt32LE(8)];
      if (length === 0) this.#inFile = false;
      for (let taken = 0; taken < length; ) {
        const data = this.#some(length - taken);
        if (data === undefined) return;
        yield { offset: offset + taken, data };
        taken += data.length;
      }
    }
  }

  #exactly(length: number): Buffer | undefined {
    const first = this.#some(length);
    if (first === undefined || first.length === length) return first && Buffer.from(first);
    const all = Buffer.alloc(length);
    let taken = first.copy(all);
    while (taken < length) {
      const more = this.#some(length - taken);
      if (more === undefined) return undefined;
      taken += more.copy(all, taken);
    }
    return all;
  }

  #some(length: number): Buffer | undefined {
    if (this.#at === this.#bytes.length) {
      const bytes = this.#ring.next();
      if (bytes === undefined) return undefined;
      this.#bytes = bytes;
      this.#at = 0;
    }
    const some = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += some.length;
    return some;
  }
}
