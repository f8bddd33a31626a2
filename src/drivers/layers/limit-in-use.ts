import { Unimplemented } from '../../errors/errors.ts';

/** For a driver whose limit is a file system of its own, or who has none. @param driver its name */
export function refuseLimitInUse(driver: string): Unimplemented {
  return new Unimplemented(
    `the layer driver ${driver} cannot limit a layer that is in use; set \`snapshotters.NAME.limit\`, which limits every container from its start, or keep the layer store on btrfs`,
  );
}
