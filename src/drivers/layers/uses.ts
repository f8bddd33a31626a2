import type { LayerNumber } from '../../core/names.ts';

/** The layers that we read or write ourselves: what we have open stands in no mount table. */
export class Uses {
  readonly #counts = new Map<LayerNumber, number>();

  has(number: LayerNumber): boolean {
    return this.#counts.has(number);
  }

  /** @returns what ends this use, once */
  begin(numbers: readonly LayerNumber[]): () => void {
    for (const number of numbers) this.#add(number, 1);
    let isOver = false;
    return () => {
      if (!isOver) for (const number of numbers) this.#add(number, -1);
      isOver = true;
    };
  }

  #add(number: LayerNumber, change: 1 | -1): void {
    const count = (this.#counts.get(number) ?? 0) + change;
    if (count === 0) this.#counts.delete(number);
    else this.#counts.set(number, count);
  }
}
