import { ftruncateSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { fromNodeError } from '../../../errors/from-errno.ts';
import type { Piece } from '../../../tar/content.ts';
import { shownText } from './apply-names.ts';
import { crcOfZeros } from './content-crc.ts';

/**
 * Writes the data of a file where it belongs, so that what is between stays a hole.
 * @param path for messages
 * @returns the CRC-32 of the whole content, holes as zeros
 */
export function writeContent(fd: number, size: number, pieces: Iterable<Piece>, path: string): number {
  let [crc, end] = [0, 0];
  try {
    for (const { offset, data } of pieces) {
      if (offset > end) crc = crcOfZeros(crc, offset - end);
      for (let done = 0; done < data.length; )
        done += writeSync(fd, data, done, data.length - done, offset + done);
      crc = crc32(data, crc);
      end = offset + data.length;
    }
    if (end < size) ftruncateSync(fd, size);
  } catch (error) {
    throw fromNodeError(error, `write ${shownText(path)}`);
  }
  return end < size ? crcOfZeros(crc, size - end) : crc;
}
