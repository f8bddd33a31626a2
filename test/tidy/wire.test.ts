import { globSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { repository } from '../../scripts/lib/paths.ts';
import { must } from '../../scripts/lib/process.ts';
import { environment } from '../support/daemon.ts';

describe('src/wire/gen', () => {
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'varve-wire-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('is what npm run generate makes of src/wire/proto', async () => {
    const { scripts } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
      readonly scripts: Readonly<Record<string, string>>;
    };
    const [program = '', ...words] = scripts['generate']?.split(' ') ?? [];
    const bin = join(repository, 'node_modules/.bin');
    const env = { ...environment, PATH: `${bin}:${process.env['PATH']}`, XDG_CACHE_HOME: directory };
    await must(join(bin, program), [...words, '--output', directory], { cwd: repository, env });
    const made = filesBelow(join(directory, 'src/wire/gen'));
    expect(made.size).to.be.above(5);
    expect(filesBelow(join(repository, 'src/wire/gen'))).to.deep.equal(made);
  });
});

/** The texts of all files below a directory, by path. */
function filesBelow(directory: string): ReadonlyMap<string, string> {
  const paths = globSync('**/*.*', { cwd: directory }).sort();
  return new Map(paths.map(path => [path, readFileSync(join(directory, path), 'utf8')]));
}
