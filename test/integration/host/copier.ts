/**
 * A process to kill while it copies: `copier.ts SOURCE TARGET` lives on after SIGINT, as the daemon does, and
 * says `copied`, or the code of the failure.
 */
import { VarveError } from '../../../src/errors/errors.ts';
import { LinuxDisk } from '../../../src/host/linux/disk.ts';

const [source = '', target = ''] = process.argv.slice(2);
process.on('SIGINT', () => {});
const disk = new LinuxDisk();
const root = await disk.open(target);
const options = { signal: new AbortController().signal, onProgress: () => {} };
const answer = await disk.copyTree(source, root, '.', options).then(
  () => 'copied',
  (error: unknown) => (error instanceof VarveError ? error.code : String(error)),
);
process.stdout.write(answer);
