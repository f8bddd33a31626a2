/** What the cases of moby's graphdriver suite (daemon/graphdriver/graphtest) write. */
import { chown, directory, file, randomBytes, type TreeChange } from '../support/layer-tree.ts';

export const base = [
  ...[directory('/a subdir', 0o1705), chown('/a subdir', 1, 2)],
  file('/a file', 'Some data', 0o4222),
];

/** {@link base} as `readTree` shows it. */
export const baseTree = [
  '/ 40755 0:0',
  '/a file 104222 0:0 9 5b82f8bf4df2bfb0e66ccaa7306fd024',
  '/a subdir 41705 1:2',
];

export function manyFiles(count: number, seed: number): readonly TreeChange[] {
  return Array.from({ length: count }, (_, index) =>
    file(`/directory-0/file-${index}`, randomBytes(64, seed + index), 0o755),
  );
}
