import type { LayerSpace, StoreSpace } from '../core/layers/view.ts';
import { shortName } from './layer-name.ts';
import { silenceText, usersText } from './layer-text.ts';
import { size, table } from './output.ts';

/** What a tree is drawn with. */
interface Strokes {
  readonly committed: string;
  readonly active: string;
  readonly view: string;
  /** Before a layer with siblings that follow, and before the last of them. */
  readonly branch: string;
  readonly lastBranch: string;
  /** Beside what stands between two branches. */
  readonly line: string;
}

const strokes: Readonly<Record<'utf8' | 'ascii', Strokes>> = {
  utf8: { committed: '●', active: '○', view: '◌', branch: '├─', lastBranch: '└─', line: '│ ' },
  ascii: { committed: '*', active: 'o', view: '.', branch: '|-', lastBranch: '`-', line: '| ' },
};

export type Charset = keyof typeof strokes;

/** The picture of a store: who rests on whom, from the bottom down. */
export function treeText(space: StoreSpace, charset: Charset): string {
  const { store, driver, root, layers } = space;
  const title = `${store}: ${driver}, ${root}`;
  if (layers.length === 0) return `${title}\nno layers`;
  const firsts = firstOfEach(layers);
  const rows = drawTree(layers, charset).flatMap(({ drawing, layer, isBottom }, at) => [
    ...(isBottom && at > 0 ? [['', '', '', '', '']] : []),
    [
      `${drawing} ${shortName(layer.name)}`,
      layer.kind,
      size(layer.usage?.bytes),
      layer.neededBy.count > 1 ? `by ${layer.neededBy.count}` : '',
      noteOf(layer, firsts),
    ],
  ]);
  const silence = space.engineSilence === null ? '' : `\n${silenceText(space.engineSilence)}`;
  return `${title}\n${table(['LAYER', 'KIND', 'OWN', 'SHARED', ''], rows)}\n\n${summary(space)}${silence}`;
}

function summary({ layers, totals }: StoreSpace): string {
  const { own, shared, unshared } = totals;
  const count = `${layers.length} layer${layers.length === 1 ? '' : 's'}`;
  return `${count}, ${size(own + shared)}; without sharing ${size(unshared)}. A layer rests on the one above it, or on the one from which its line branches off.`;
}

/** The same archive over another parent is another layer, and is stored again. */
function noteOf({ name, diffId, share, users }: LayerSpace, firsts: ReadonlyMap<string, string>): string {
  if (share === 'damaged' || share === 'leaked') return share;
  const first = diffId === null ? undefined : firsts.get(diffId);
  const who = users.length === 0 ? [] : [usersText({ count: users.length, first: users })];
  const same = first === undefined || first === name ? [] : [`same archive as ${shortName(first)}`];
  return [...who, ...same].join('; ');
}

function firstOfEach(layers: readonly LayerSpace[]): ReadonlyMap<string, string> {
  const firsts = new Map<string, string>();
  for (const { diffId, name } of layers) {
    if (diffId !== null && !firsts.has(diffId)) firsts.set(diffId, name);
  }
  return firsts;
}

interface Drawn<T> {
  /** What stands left of its name. */
  readonly drawing: string;
  readonly layer: T;
  readonly isBottom: boolean;
}

type Node = Pick<LayerSpace, 'name' | 'parent' | 'kind'>;

/**
 * Draws each layer. An only child stands straight below its parent, so that a high stack does not
 * wander to the right; several branch off.
 */
export function drawTree<T extends Node>(layers: readonly T[], charset: Charset): readonly Drawn<T>[] {
  const { branch, lastBranch, line, ...marks } = strokes[charset];
  const children = childrenOf(layers);
  const roots = children.get(null) ?? [];
  const pending = roots.map(layer => ({ layer, lead: '', below: '' })).reverse();
  const isBottom = new Set(roots);
  const drawn: Drawn<T>[] = [];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { layer, lead, below } = next;
    drawn.push({ drawing: `${lead}${marks[layer.kind]}`, layer, isBottom: isBottom.has(layer) });
    const above = children.get(layer.name) ?? [];
    const placed = above.map((child, at) => {
      if (above.length === 1) return { layer: child, lead: below, below };
      const isLast = at === above.length - 1;
      return {
        layer: child,
        lead: `${below}${isLast ? lastBranch : branch}`,
        below: `${below}${isLast ? '  ' : line}`,
      };
    });
    pending.push(...placed.reverse());
  }
  return drawn;
}

function childrenOf<T extends Node>(layers: readonly T[]): ReadonlyMap<string | null, readonly T[]> {
  const names = new Set(layers.map(({ name }) => name));
  return Map.groupBy(layers, ({ parent }) => (parent !== null && names.has(parent) ? parent : null));
}
