/**
 * The options of an overlay, as mount(8) takes them and as a mount table shows them (kernel,
 * Documentation/filesystems/overlayfs.rst).
 */
export interface OverlayParts {
  /** From the top down. */
  readonly lowers: readonly string[];
  /** Undefined for a read-only one. */
  readonly upper: string | undefined;
  readonly work: string | undefined;
  /** All other options, as they are. */
  readonly settings: readonly string[];
}

/**
 * @param options one by one. A mount table shows them as they were given: `lowerdir=` with escapes from mount(2),
 * one `lowerdir+=` for each directory, without escapes, from fsconfig(2).
 */
export function parseOverlay(options: readonly string[]): OverlayParts {
  const lowers: string[] = [];
  const settings: string[] = [];
  let [upper, work]: (string | undefined)[] = [];
  for (const option of options) {
    const [, name = option, value = ''] = /^([^=]*)=(.*)$/s.exec(option) ?? [];
    if (name === 'lowerdir') lowers.push(...splitPaths(value).map(unescaped));
    else if (name === 'lowerdir+') lowers.push(value);
    else if (name === 'upperdir') upper = unescaped(value);
    else if (name === 'workdir') work = unescaped(value);
    else settings.push(option);
  }
  return { lowers, upper, work, settings };
}

/** At each colon that no backslash stands before. */
function splitPaths(value: string): readonly string[] {
  return (value.match(/(?:\\.|[^\\:])+/gs) ?? []) as readonly string[];
}

function unescaped(path: string): string {
  return path.replace(/\\(.)/gs, '$1');
}

/** Inside `upperdir=` and `workdir=`, also for fsconfig(2). */
export function escapedPath(path: string): string {
  return path.replace(/[\\:,]/g, '\\$&');
}

/** Whether both show the same: what can be written to decides, or else what is read. */
export function showsTheSame(one: OverlayParts, other: OverlayParts): boolean {
  return one.upper === other.upper && String(one.lowers) === String(other.lowers);
}
