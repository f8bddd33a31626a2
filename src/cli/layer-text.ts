import type { LayerChange, Verification } from '../core/layers/layer-store.ts';
import type {
  Collected,
  Garbage,
  LayerSpace,
  LayerUser,
  ListedLayer,
  StoreSpace,
  StrayView,
} from '../core/layers/view.ts';
import type { Usage } from '../core/ports.ts';
import { formatBytes } from '../core/quantity.ts';
import { shortName } from './layer-name.ts';
import { ago, printable, size, table } from './output.ts';

/** The table of `varve layer ls`. */
export function layersText(layers: readonly ListedLayer[], now: Date): string {
  const rows = layers.map(({ name, store, kind, parent, usage, usedBy, createdAt, damage }) => [
    shortName(name),
    store,
    kind,
    parent === null ? '-' : shortName(parent),
    size(usage?.bytes),
    usedBy === null ? '-' : usersText(usedBy),
    ago(createdAt, now),
    damage ?? 'ok',
  ]);
  return table(['NAME', 'STORE', 'KIND', 'PARENT', 'OWN', 'USED BY', 'CREATED', 'HEALTH'], rows);
}

const states: Readonly<Record<StrayView['kind'], string>> = {
  trash: 'reclaimable: removed',
  draft: 'reclaimable: unfinished',
  unrecorded: 'orphaned: not in the records',
};

/** What `varve layer du` says of one store: each layer, what else is on the disk, and the sums. */
export function spaceText({
  store,
  driver,
  root,
  engineSilence,
  layers,
  strays,
  totals,
}: StoreSpace): string {
  const rows = [
    ...layers.map(layer => [shortName(layer.name), layer.kind, ...figures(layer.usage), shareText(layer)]),
    ...strays.map(stray => [titleOf(stray), stray.kind, ...figures(stray.usage), states[stray.kind]]),
  ];
  const sums = (['own', 'shared', 'reclaimable', 'orphaned', 'total'] as const).map(
    name => `${name.padEnd(11)}   ${size(totals[name]).padStart(9)}`,
  );
  const title = `${store}: ${driver}, ${root}`;
  const parts = [`${title}\n${table(['NAME', 'KIND', 'OWN', 'INODES', 'NEEDED BY'], rows)}`, sums.join('\n')];
  if (engineSilence !== null) parts.push(silenceText(engineSilence));
  return parts.join('\n\n');
}

/** Why nobody is named. */
export function silenceText(reason: string): string {
  return `Containers and images are not named: ${reason}`;
}

function figures(usage: Usage | null): readonly string[] {
  return [size(usage?.bytes), usage === null ? '-' : String(usage.inodes)];
}

/** By its number, since another layer may have the name now. */
function titleOf({ number, name }: StrayView | Garbage): string {
  return `#${number}${name === null ? '' : ` ${shortName(name)}`}`;
}

function shareText({ name, share, neededBy, usedBy }: LayerSpace): string {
  if (share === 'damaged' || share === 'leaked') return `reclaimable: ${share}`;
  if (usedBy !== null && usedBy.count > 0) return usersText(usedBy);
  const { count, first } = neededBy;
  if (count === 1 && first[0] === name) return 'itself';
  const shown = 3;
  const names = first.slice(0, shown).map(shortName).join(', ');
  return count > shown ? `${names} and ${count - shown} more` : names;
}

/** Of many, the first three. */
export function usersText({
  count,
  first,
}: {
  readonly count: number;
  readonly first: readonly LayerUser[];
}): string {
  const shown = 3;
  const names = first
    .slice(0, shown)
    .map(({ kind, name }) => `${kind} ${shortName(name)}`)
    .join(', ');
  if (count === 0) return 'nobody';
  return count > shown ? `${names} and ${count - shown} more` : names;
}

/** What `varve layer diff` and `changes` print: one line for each path, which may be many. */
export function changesText(changes: readonly LayerChange[]): string {
  if (changes.length === 0) return 'no changes';
  const lines = changes.map(({ kind, bytes, path }) => {
    return `${kind.padEnd(8)}   ${(bytes === 0 ? '-' : formatBytes(bytes)).padStart(9)}   ${printable(path)}`;
  });
  const counts = (['added', 'modified', 'deleted'] as const).map(
    kind => `${changes.filter(change => change.kind === kind).length} ${kind}`,
  );
  const bytes = changes.reduce((sum, change) => sum + change.bytes, 0);
  return [...lines, '', `${counts.join(', ')}; ${formatBytes(bytes)}`].join('\n');
}

export interface VerifiedLayer extends Verification {
  readonly name: string;
}

/** The table of `varve layer verify`, and what is wrong where. */
export function verifiedText(layers: readonly VerifiedLayer[]): string {
  const rows = layers.map(({ name, verified, recorded, bytes, problems }) => [
    shortName(name),
    problems.length === 0 ? 'ok' : `${problems.length} wrong`,
    String(verified),
    String(recorded),
    size(bytes),
  ]);
  const problems = layers.flatMap(({ name, problems: found }) =>
    found.map(({ path, problem }) => [shortName(name), problem, path]),
  );
  const summary = table(['NAME', 'VERDICT', 'VERIFIED', 'RECORDED', 'READ'], rows);
  return problems.length === 0 ? summary : `${summary}\n\n${table(['NAME', 'PROBLEM', 'PATH'], problems)}`;
}

/** What `varve layer gc` says. */
export function collectedText({ items, left }: Collected, { dryRun }: { dryRun: boolean }): string {
  const verb = dryRun ? 'would be deleted' : 'deleted';
  const bytes = items.reduce((sum, { usage }) => sum + usage.bytes, 0);
  const rows = items.map(item => [titleOf(item), item.store, ...figures(item.usage)]);
  return [
    ...(items.length === 0 ? [] : [table(['REMOVED', 'STORE', 'SIZE', 'INODES'], rows), '']),
    items.length === 0 ? 'There is nothing to delete.' : `${items.length} ${verb}, ${formatBytes(bytes)}`,
    ...(left === 0 ? [] : [`Still in use, and deleted later: ${left}`]),
  ].join('\n');
}
