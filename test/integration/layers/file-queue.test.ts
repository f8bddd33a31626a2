import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  type FileAnswer,
  type FileHead,
  FileReceiver,
  FileSender,
  makeFileQueue,
} from '../../../src/drivers/layers/archive/file-queue.ts';
import { writeFilesTask } from '../../../src/drivers/layers/archive/write-files.ts';
import { Aborted, Exhausted } from '../../../src/errors/errors.ts';
import { errorCode } from '../../../src/errors/from-errno.ts';
import { times } from '../../support/long.ts';

const noCheck = () => undefined;
const none = () => undefined;
const plain = { size: 0, mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 } };

/** Both ends in one thread: what is sent has to fit into the ring, and neither waits. */
describe('the queue of files', () => {
  let scratch: string;

  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), 'varve-queue-'));
  });

  afterEach(() => rmSync(scratch, { recursive: true }));

  const isClosed = (fd: number) => {
    try {
      fstatSync(fd);
      return false;
    } catch (error) {
      return errorCode(error) === 'EBADF';
    }
  };
  /** One whose receiver runs, as far as the sender knows. */
  const startedQueue = () => {
    const queue = makeFileQueue();
    new FileReceiver(queue);
    return queue;
  };
  const write = (files: ReturnType<typeof makeFileQueue>) =>
    writeFilesTask({ files, form: { type: 'whole' }, directory: scratch });

  it('hands over what was sent, and back what it became, in its order', () => {
    const id = fc.nat(2 ** 32 - 2);
    const head = fc.record({
      fd: fc.nat(2 ** 20),
      path: fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes).toString('latin1')),
      size: fc.nat(Number.MAX_SAFE_INTEGER),
      mode: fc.nat(0o7777),
      uid: id,
      gid: id,
      mtime: fc.record({
        seconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
        nanoseconds: fc.nat(999_999_999),
      }),
    });
    const piece = fc.record({
      offset: fc.nat(Number.MAX_SAFE_INTEGER - 2 ** 20),
      // Now and then more than a slot.
      length: fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 2 ** 20 + 9 })),
    });
    const file = fc.record({ head, pieces: fc.array(piece, { maxLength: 2 }), read: fc.boolean() });
    fc.assert(
      fc.property(fc.array(file, { maxLength: 3 }), files => {
        fc.pre(
          files.flatMap(({ pieces }) => pieces).reduce((sum, { length }) => sum + length, 0) < 3 * 2 ** 20,
        );
        const queue = makeFileQueue();
        const receiver = new FileReceiver(queue);
        const answered: [string, FileAnswer][] = [];
        const sender = new FileSender(queue, noCheck, (...answer) => answered.push(answer));
        const dataOf = ({ offset, length }: { offset: number; length: number }) =>
          Buffer.alloc(length, `${offset} `);
        for (const { head: sent, pieces } of files)
          sender.send(
            sent,
            pieces.map(each => ({ offset: each.offset, data: dataOf(each) })),
          );
        sender.end();
        const answers = files.map(({ head: sent, pieces, read }, index): [string, FileAnswer] => {
          expect(receiver.next()).to.deep.equal(sent);
          const got = read ? [...receiver.pieces()].map(each => ({ ...each, data: crc32(each.data) })) : [];
          expect(got.length > 0).to.equal(read && pieces.length > 0);
          const answer = {
            content: index,
            attributes: 2 ** 32 - 1,
            size: sent.size,
            ctimeNs: -5n,
            ino: 2n ** 64n - 1n,
          };
          receiver.answer(answer);
          return [sent.path, answer];
        });
        expect(receiver.next()).to.equal(undefined);
        sender.settle();
        expect(answered).to.deep.equal(answers);
      }),
      { numRuns: times(30, 300) },
    );
  });

  it('gives each file its content, holes and all, and its attributes', () => {
    const queue = startedQueue();
    const answers: FileAnswer[] = [];
    const sender = new FileSender(queue, noCheck, (_, answer) => answers.push(answer));
    const place = join(scratch, 'f');
    const mtime = { seconds: -2, nanoseconds: 250_000_000 };
    const fd = openSync(place, 'wx', 0o600);
    const head: FileHead = { fd, path: 'f', size: 2_000_000, mode: 0o4751, uid: 1000, gid: 2000, mtime };
    sender.send(head, [{ offset: 1_000_000, data: Buffer.from('middle') }]);
    sender.end();
    write(queue);
    sender.settle();
    const expected = Buffer.alloc(2_000_000);
    expected.write('middle', 1_000_000);
    expect(readFileSync(place).equals(expected)).to.equal(true);
    const { uid, gid, mode, mtimeNs, ctimeNs, ino } = statSync(place, { bigint: true });
    expect([uid, gid, mode & 0o7777n, mtimeNs]).to.deep.equal([1000n, 2000n, 0o4751n, -1_750_000_000n]);
    expect(answers).to.have.length(1);
    expect(answers[0]).to.include({ ino, ctimeNs, size: 2_000_000, content: crc32(expected) });
    expect(isClosed(fd)).to.equal(true);
  });

  it('takes nothing before somebody is there who closes it', () => {
    let looks = 0;
    const stop = () => {
      looks += 1;
      throw new Aborted('told to stop');
    };
    const sender = new FileSender(makeFileQueue(), stop, none);
    const fd = openSync('/dev/null', 'w');
    expect(() => sender.send({ ...plain, fd, path: 'f' }, [])).to.throw('told to stop');
    expect([looks, isClosed(fd)]).to.deep.equal([1, true]);
  });

  it('closes what comes after a failure, and tells the sender', () => {
    const queue = startedQueue();
    const sender = new FileSender(queue, noCheck, none);
    const fds = Array.from({ length: 3 }, () => openSync('/dev/full', 'w'));
    for (const fd of fds) sender.send({ ...plain, fd, path: 'f' }, [{ offset: 0, data: Buffer.from('x') }]);
    sender.end();
    expect(() => write(queue)).to.throw(Exhausted);
    expect(fds.map(isClosed)).to.deep.equal([true, true, true]);
    expect(() => sender.settle()).to.throw(Aborted);
    const late = openSync('/dev/null', 'w');
    expect(() => sender.send({ ...plain, fd: late, path: 'f' }, [])).to.throw(Aborted);
    closeSync(late);
  });

  it('closes a file whose content ends in the middle', () => {
    const queue = startedQueue();
    const sender = new FileSender(queue, noCheck, none);
    const fd = openSync(join(scratch, 'f'), 'wx');
    const cutOff = function* () {
      yield { offset: 0, data: Buffer.from('some') };
      throw new Error('cut off');
    };
    expect(() => sender.send({ ...plain, fd, path: 'f', size: 10 }, cutOff())).to.throw('cut off');
    sender.end();
    expect(() => write(queue)).to.throw(Aborted);
    expect(isClosed(fd)).to.equal(true);
  });
});
