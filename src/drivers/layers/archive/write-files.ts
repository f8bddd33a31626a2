/** The task that gives new files their content and attributes, while another one unpacks the archive. */
import { closeSync } from 'node:fs';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { noBytes, noXattrs } from '../../../tar/entry.ts';
import { AttributeWriter } from './apply-attributes.ts';
import { writeContent } from './apply-content.ts';
import { bytesOfPath } from './apply-names.ts';
import type { TreeForm } from './archiver.ts';
import { attributesCrc } from './digests.ts';
import { type FileAnswer, type FileHead, type FileQueue, FileReceiver } from './file-queue.ts';

export interface WriteFilesArgs {
  readonly files: FileQueue;
  readonly form: TreeForm;
  /** The layer's directory, for messages. */
  readonly directory: string;
}

/**
 * Ends when the other end of the queue does, and not when it is told to stop: every file that came is closed then.
 * @throws the first failure
 */
export function writeFilesTask({ files, form, directory }: WriteFilesArgs): void {
  const receiver = new FileReceiver(files);
  const attributes = new AttributeWriter(form, directory);
  let failure: Error | undefined;
  for (let head = receiver.next(); head !== undefined; head = receiver.next()) {
    try {
      if (failure === undefined) receiver.answer(writeFile(head, receiver, attributes));
      else closeSync(head.fd);
    } catch (error) {
      failure ??= fromNodeError(error, 'write a file');
      receiver.fail();
    }
  }
  if (failure !== undefined) throw failure;
}

function writeFile(head: FileHead, receiver: FileReceiver, attributes: AttributeWriter): FileAnswer {
  const { fd, path, size } = head;
  try {
    const content = writeContent(fd, size, receiver.pieces(), path);
    const target = { directory: -1, name: bytesOfPath(path), fd, type: 'file', inherits: false } as const;
    const status = attributes.set(target, { ...head, xattrs: noXattrs });
    const crc = attributesCrc({ ...status, linkTarget: noBytes, xattrs: noXattrs });
    return { content, attributes: crc, size: status.size, ctimeNs: status.ctimeNs, ino: status.ino };
  } finally {
    closeSync(fd);
  }
}
