/** `node open-overlay.ts ROOT`: opens the driver there, makes two layers and says which attributes it uses. */
import { mkdir, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openOverlayDriver } from '../../src/drivers/layers/overlay/open.ts';
import { LinuxMounter } from '../../src/host/linux/mounter.ts';
import { localArchiver } from './overlay-layers.ts';
import { stack } from './whole-layers.ts';

const [root = ''] = process.argv.slice(2);
const driver = await openOverlayDriver(root, localArchiver);
for (const number of [1, 2]) {
  const draft = join(root, `new-${number}`);
  await mkdir(draft);
  await driver.make(draft, number === 1 ? null : stack(1), { kind: 'active', limit: null });
  await rename(draft, join(root, String(number)));
}
await writeFile(join(root, '1/fs/gone'), 'x');
await driver.placed(stack(1), 'committed');
await driver.placed(stack(2, 1), 'active');
const target = join(root, 'mnt');
await mkdir(target);
for (const source of await driver.mounts(stack(2, 1), 'active'))
  await new LinuxMounter().mount({ ...source, target });
await unlink(join(target, 'gone'));
await writeFile(join(target, 'file'), 'it works');
const { form, close } = await driver.open(stack(2, 1));
await close();
process.stdout.write(
  `${form.type === 'delta' ? form.prefix : form.type} ${await readFile(join(target, 'file'), 'utf8')}`,
);
await new LinuxMounter().unmount(target);
await rm(target, { recursive: true });
