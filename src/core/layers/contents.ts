import { FailedPrecondition } from '../../errors/errors.ts';
import { type LayerKey, show } from '../names.ts';
import type { Usage } from '../ports.ts';
import type { LayerCatalog } from './catalog.ts';
import type { Stack } from './layer-disk.ts';
import type { Applied, Archive, LayerChange, LongWork, Verification } from './layer-store.ts';
import { type LayerRecord, manifestOf } from './record.ts';
import type { LayerSteps } from './steps.ts';

/** What is in the layers: filling, reading and checking them. */
export class LayerContents {
  readonly #steps: LayerSteps;

  constructor(steps: LayerSteps) {
    this.#steps = steps;
  }

  /**
   * The record says beforehand that there may be a part of an archive, so that no crash makes it look whole, and
   * afterwards that it is not on the disk yet.
   */
  async apply(key: LayerKey, archive: Archive, work: LongWork): Promise<Applied> {
    const { catalog, disk } = this.#steps;
    const record = requireSound(catalog, key);
    if (record.kind !== 'active') {
      throw new FailedPrecondition(
        `cannot apply to ${show(key)}: it is a ${record.kind} layer, not an active one`,
      );
    }
    const isFirst = record.archive === 'none';
    await this.#save({ ...record, archive: 'part', diffId: null });
    const applied = await disk.apply(catalog.stackOf(record), archive, work);
    const diffId = isFirst ? applied.diffId : null;
    const unsyncedBoot = this.#steps.bootId;
    await this.#save({ ...record, archive: isFirst ? 'whole' : 'several', diffId, unsyncedBoot });
    return applied;
  }

  async #save(record: LayerRecord): Promise<void> {
    await this.#steps.catalog.change({ put: [record] });
    await this.#steps.disk.writeManifest(manifestOf(record));
  }

  async diff(base: LayerKey | null, key: LayerKey, work: LongWork): Promise<AsyncIterable<Uint8Array>> {
    return await this.#steps.disk.diff(this.#stack(base), this.#stackOf(key), work);
  }

  async changes(base: LayerKey | null, key: LayerKey, work: LongWork): Promise<readonly LayerChange[]> {
    return await this.#steps.disk.changes(this.#stack(base), this.#stackOf(key), work);
  }

  async usage(key: LayerKey, signal?: AbortSignal): Promise<Usage> {
    const record = this.#steps.catalog.get(key);
    if (record.usage !== null) return record.usage;
    const usage = await this.#steps.disk.usage(this.#steps.catalog.stackOf(record), signal);
    const isStillSo = this.#steps.catalog.find(key) === record;
    if (record.kind === 'committed' && isStillSo)
      await this.#steps.catalog.change({ put: [{ ...record, usage }] });
    return usage;
  }

  async verify(name: LayerKey, work: LongWork): Promise<Verification> {
    const record = this.#steps.catalog.get(name);
    if (record.kind !== 'committed') {
      throw new FailedPrecondition(
        `cannot verify ${show(name)}: it is a ${record.kind} layer, and only committed ones do not change`,
      );
    }
    return await this.#steps.disk.verify(this.#steps.catalog.stackOf(record), record.createdAt, work);
  }

  #stack(base: LayerKey | null): Stack | null {
    return base === null ? null : this.#stackOf(base);
  }

  #stackOf(key: LayerKey): Stack {
    return this.#steps.catalog.stackOf(requireSound(this.#steps.catalog, key));
  }
}

/**
 * The record of a layer that can be used, and so can all beneath it.
 * @throws NotFound, FailedPrecondition
 */
export function requireSound(catalog: LayerCatalog, key: LayerKey): LayerRecord {
  const record = catalog.get(key);
  for (const each of catalog.recordsOf(record)) {
    const reason = catalog.damageOf(each);
    if (reason === null) continue;
    const beneath = each.name === key ? '' : `, which ${show(key)} rests on,`;
    throw new FailedPrecondition(
      `the layer ${show(each.name)}${beneath} is damaged: ${reason}; remove it, and make it again`,
    );
  }
  return record;
}
