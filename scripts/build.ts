import { chmod, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { thirdPartyLicenses } from './lib/licenses.ts';
import { repository, varveScript } from './lib/paths.ts';
import { bundle } from './lib/stage.ts';

// Makes dist: the program as all packages ship it. Types are checked elsewhere.
const dist = join(repository, 'dist');
// A file that was renamed must not live on in dist; scripts/package puts its packages there as well.
for (const name of await readdir(dist).catch(() => [])) {
  if (!name.endsWith('.deb')) await rm(join(dist, name), { recursive: true });
}
const contained = await bundle(dirname(varveScript));
await writeFile(join(dist, 'THIRD-PARTY-LICENSES'), await thirdPartyLicenses(contained));
await chmod(varveScript, 0o755);
