import { InvalidArgument } from '../../errors/errors.ts';
import { show } from '../names.ts';

declare const brand: unique symbol;
/** What an engine calls a layer of its graph driver. {@link parseGraphId} is the only way to get one. */
export type GraphId = string & { readonly [brand]: 'GraphId' };

/** Longest file name of Linux (NAME_MAX): a mount point is called like its layer. */
const maxLength = 255;

/**
 * dockerd sends 64 hex digits, the same with `-init`, or 25 letters and digits (buildkit). It never holds a slash, so
 * that the names below are no engine's.
 * @throws InvalidArgument
 */
export function parseGraphId(raw: unknown): GraphId {
  if (typeof raw !== 'string' || raw === '') {
    throw new InvalidArgument('the layer id is missing; send the request again with its ID');
  }
  if (raw.length <= maxLength && /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(raw)) return raw as GraphId;
  throw new InvalidArgument(
    `the layer id ${show(raw)} is not allowed; use at most ${maxLength} letters, digits, "_", "." and "-", the first a letter or digit`,
  );
}

/**
 * A graph driver has one id for a layer that is written first and read by others later; the layer store has a key
 * for the one and a name for the other. No table says which: the active layer `ID` is committed as `committed/ID`.
 */
export const nameOf = {
  active: (id: GraphId): string => id,
  committed: (id: GraphId): string => `committed/${id}`,
  /** What shows a committed layer while it is mounted. */
  view: (id: GraphId): string => `view/${id}`,
} as const;

/** The layer that a view shows; undefined for any other name. */
export function idOfView(name: string): GraphId | undefined {
  const [, id] = /^view\/(.+)$/.exec(name) ?? [];
  return id === undefined ? undefined : parseGraphId(id);
}

/**
 * What a layer was made for: `image` by Create, `container` by CreateReadWrite, which is also what the engine puts
 * beneath a container (`ID-init`).
 */
export type GraphUse = 'image' | 'container';

/** The label that says so. */
export const useLabel = 'varve/graph';

/** How long a call waits for another one on the same layer, in milliseconds: a commit may have to empty caches. */
export const patienceMs = 60_000;
