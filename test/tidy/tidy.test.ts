import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { repository } from '../../scripts/lib/paths.ts';
import { rules, type SourceFile, violations } from './rules.ts';

const patterns = [
  '{src,scripts,test,bench,docs,plugin}/**/*',
  '.ci/*',
  '*',
  '.npmrc',
  '.mocharc.json',
  '.*.cjs',
];

/** Everything that a person wrote here, so nothing that was generated; except the rules themselves, which quote what they forbid. */
function sourceFiles(): readonly SourceFile[] {
  const entries = globSync(patterns, { cwd: repository, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
  const paths = files.map(file => file.slice(repository.length + 1));
  const written = [...new Set(paths)].filter(path => !/^(test\/tidy|src\/wire\/gen)\//.test(path));
  return written.map(path => ({ path, text: readFileSync(join(repository, path), 'utf8') }));
}

describe('tidy', () => {
  let files: readonly SourceFile[];

  before(() => {
    files = sourceFiles();
  });

  it('looks at every kind of file', () => {
    const paths = files.map(file => file.path);
    expect(paths).to.include.members([
      'src/errors/errors.ts',
      'scripts/lib/run',
      'docs/rules.md',
      'package.json',
      '.ci/run',
    ]);
  });

  for (const rule of rules) {
    it(rule.name, () => {
      expect(files.flatMap(file => violations(rule, file))).to.deep.equal([]);
    });

    it(`${rule.name}: a planted violation is caught`, () => {
      expect(violations(rule, rule.bad)).to.have.lengthOf(1);
      expect(violations(rule, rule.good)).to.deep.equal([]);
    });
  }
});
