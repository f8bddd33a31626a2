import { Option } from 'commander';

/** What every command of `varve layer` takes. */
export interface StoreOptions {
  readonly store?: string;
}

export function storeOption(fallback = 'all, or the one that has the layer'): Option {
  return new Option('--store <name>', `layer store (default: ${fallback})`);
}

export const layerArgument = 'names of layers, or the beginning of a name';
