import { writeSync } from 'node:fs';
import { Aborted } from '../../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../../errors/from-errno.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import type { ByteSink } from '../../../tar/writer.ts';

/** A pipe, written to in large pieces. */
export class PipeWriter implements ByteSink {
  readonly #fd: number;
  readonly #context: TaskContext;
  readonly #chunk = Buffer.alloc(256 * 1024);
  #used = 0;

  constructor(fd: number, context: TaskContext) {
    this.#fd = fd;
    this.#context = context;
  }

  write(bytes: Buffer): void {
    if (this.#used + bytes.length > this.#chunk.length) this.flush();
    if (bytes.length > this.#chunk.length) this.#send(bytes);
    else this.#used += bytes.copy(this.#chunk, this.#used);
  }

  flush(): void {
    this.#send(this.#chunk.subarray(0, this.#used));
    this.#used = 0;
  }

  #send(bytes: Buffer): void {
    this.#context.throwIfAborted();
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      if (errorCode(error) === 'EPIPE')
        throw new Aborted('nobody reads the archive any more; ask for it again');
      throw fromNodeError(error, 'write the archive');
    }
  }
}
