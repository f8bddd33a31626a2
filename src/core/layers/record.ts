import { z } from 'zod';
import { FailedPrecondition, InvalidArgument, messageOf } from '../../errors/errors.ts';
import {
  type LayerKey,
  type LayerNumber,
  type LayerStoreName,
  parseLayerKey,
  parseLayerNumber,
  show,
} from '../names.ts';
import type { StoredObject, Usage } from '../ports.ts';
import { parseLabels } from './labels.ts';
import type { Labels, LayerInfo, LayerKind, Limit } from './layer-store.ts';

/** The durable truth about one layer. */
export interface LayerRecord {
  /** The key of an active layer or view, the name of a committed one. */
  readonly name: LayerKey;
  readonly kind: LayerKind;
  readonly parent: LayerKey | null;
  readonly number: LayerNumber;
  readonly labels: Labels;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly limit: Limit | null;
  readonly usage: Usage | null;
  readonly diffId: string | null;
  /** Whether an archive has been applied, or only a part of one. */
  readonly archive: 'none' | 'part' | 'whole' | 'several';
  /** The boot (random(4), boot_id) in which it was committed and not brought to the disk. */
  readonly unsyncedBoot: string | null;
  readonly damage: string | null;
}

/** What is written beside a layer's files as `layer.json`: its record as it was then. */
export interface LayerManifest extends LayerRecord {
  readonly version: 1;
}

const parsed = <T>(parse: (raw: unknown) => T) => z.unknown().transform(raw => parse(raw));
const count = z.int().min(0);
const limit = z.object({ bytes: count, inodes: count.exactOptional() });
const usage = z.object({ bytes: count, inodes: count });
const time = z.iso.datetime();

const recordSchema = z.object({
  name: parsed(parseLayerKey),
  kind: z.enum(['active', 'view', 'committed']),
  parent: parsed(parseLayerKey).nullable(),
  number: parsed(parseLayerNumber),
  // A record of zod's would lose a label of the name `__proto__`.
  labels: parsed(parseLabels),
  createdAt: time,
  updatedAt: time,
  limit: limit.nullable(),
  usage: usage.nullable(),
  diffId: z.string().nullable(),
  archive: z.enum(['none', 'part', 'whole', 'several']),
  unsyncedBoot: z.string().nullable(),
  damage: z.string().nullable(),
});

const manifestSchema = recordSchema.extend({ version: z.literal(1) });

/** @throws FailedPrecondition for a record that nobody can have written so */
export function parseLayerRecord({ key, value }: StoredObject, keys: LayerKeys): LayerRecord {
  try {
    const record: LayerRecord = recordSchema.parse(value);
    if (key === keys.layer(record.name)) return record;
    throw new InvalidArgument(`it is the record of ${show(record.name)}`);
  } catch (error) {
    throw new FailedPrecondition(
      `the record ${show(key)} in the state database is damaged (${reasonOf(error)}); run \`varve state rebuild\`, which keeps ` +
        'the database aside and restores the records from the disks',
    );
  }
}

/** Reads what stands in `layer.json`. @throws InvalidArgument */
export function parseLayerManifest(number: LayerNumber, raw: unknown): LayerManifest {
  const result = manifestSchema.safeParse(raw);
  if (!result.success) throw new InvalidArgument(`its fields are wrong: ${reasonOf(result.error)}`);
  const manifest: LayerManifest = result.data;
  if (manifest.number !== number) throw new InvalidArgument('it belongs to another layer number');
  return manifest;
}

function reasonOf(error: unknown): string {
  return error instanceof z.ZodError ? z.prettifyError(error).replace(/\s+/g, ' ') : messageOf(error);
}

/** Where the records of one layer store are. */
export interface LayerKeys {
  readonly layers: string;
  layer(name: LayerKey): string;
  readonly trash: string;
  trashed(number: LayerNumber): string;
  /** The highest layer number ever given. */
  readonly lastNumber: string;
  /** What the store's directory is marked with. */
  readonly identity: string;
}

export function layerKeys(store: LayerStoreName): LayerKeys {
  const base = `layer-stores/${store}`;
  return {
    layers: `${base}/layers/`,
    layer: name => `${base}/layers/${name}`,
    trash: `${base}/trash/`,
    trashed: number => `${base}/trash/${number}`,
    lastNumber: `${base}/last-number`,
    identity: `${base}/identity`,
  };
}

export function manifestOf(record: LayerRecord): LayerManifest {
  return { version: 1, ...record };
}

export function infoOf(record: LayerRecord, damage: string | null): LayerInfo {
  const { name, kind, parent, labels, createdAt, updatedAt, number, limit, usage, diffId } = record;
  return { name, kind, parent, labels, createdAt, updatedAt, number, limit, usage, diffId, damage };
}
