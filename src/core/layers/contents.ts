import { FailedPrecondition } from '../../errors/errors.ts';
import { type LayerKey, show } from '../names.ts';
import type { Usage } from '../ports.ts';
import type { LayerCatalog } from './catalog.ts';
import type { Stack } from './layer-disk.ts';
import type { Applied, ApplyWork, Archive, LayerChange, LongWork, Verification } from './layer-store.ts';
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
   * afterwards whether it is on the disk yet. A manifest may be lost where the record is durable: each start writes
   * that of a layer which is not committed anew, if it has to.
   */
  async apply(key: LayerKey, archive: Archive, work: ApplyWork): Promise<Applied> {
    const { catalog, disk } = this.#steps;
    const record = requireSound(catalog, key);
    if (record.kind !== 'active') {
      throw new FailedPrecondition(
        `cannot apply to ${show(key)}: it is a ${record.kind} layer, not an active one`,
      );
    }
    const isFirst = record.archive === 'none';
    const part: LayerRecord = { ...record, archive: 'part', diffId: null };
    await catalog.change({ put: [part] });
    await disk.writeManifest(manifestOf(part), { durable: false });
    const keepOriginal = isFirst && work.keepOriginal === true;
    const applied = await disk.apply(catalog.stackOf(record), archive, { ...work, keepOriginal });
    const diffId = isFirst ? applied.diffId : null;
    if (work.sync === true) await disk.sync();
    const unsyncedBoot = work.sync === true ? null : this.#steps.bootId;
    const howMuch = isFirst ? 'whole' : 'several';
    const whole: LayerRecord = { ...record, archive: howMuch, diffId, unsyncedBoot };
    // In this order: whatever is the first to be brought to the disk waits for much of what was unpacked, and records
    // are written by the main thread, which all others need meanwhile.
    await disk.writeManifest(manifestOf(whole), { durable: work.sync !== true });
    await catalog.change({ put: [whole] });
    return applied;
  }

  async diff(base: LayerKey | null, key: LayerKey, work: LongWork): Promise<AsyncIterable<Uint8Array>> {
    return await this.#steps.disk.diff(this.#stack(base), this.#stackOf(key), work);
  }

  async original(key: LayerKey, work: LongWork): Promise<AsyncIterable<Uint8Array>> {
    const record = requireSound(this.#steps.catalog, key);
    if (record.diffId !== null) {
      return await this.#steps.disk.original(this.#steps.catalog.stackOf(record), record.diffId, work);
    }
    throw new FailedPrecondition(
      `the layer ${show(key)} was not made of one archive, and has no original; export its difference instead`,
    );
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
    const what = `the layer ${show(each.name)}${beneath} is damaged: ${reason}`;
    if (!catalog.isOfEngine) throw new FailedPrecondition(`${what}; remove it, and make it again`);
    // An engine that has not forgotten it takes it for there, and makes no other.
    throw new FailedPrecondition(
      `${what}; remove the containers and images that have it with the engine (docker rmi, ctr images rm), then pull or load the image again`,
    );
  }
  return record;
}
