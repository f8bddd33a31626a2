/** What is wrong, without where: the reader and the writer turn it into InvalidArgument with the place. */
export class Malformed extends Error {}

export function malformed(what: string): Malformed {
  return new Malformed(what);
}

/** Bytes of an archive as part of a message. */
export function quoted(text: Buffer): string {
  return JSON.stringify(text.toString());
}
