import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { repository } from '../../scripts/lib/paths.ts';
import { documented, undocumented, unknown } from './message-docs.ts';
import { collect, errorClasses, type Message } from './messages.ts';
import type { SourceFile } from './rules.ts';

/** Sources whose messages nobody outside of the tests sees. */
const notShown = ['src/host/fake/', 'src/lib/fault.ts'];

/** Errors that carry a text which is collected where it is made. */
const madeElsewhere = [
  "src/config/load.ts: lines.join('\\n')", // problems of the configuration
  "src/config/overrides.ts: sentences.join('\\n')", // the same
  'src/core/volumes/options.ts: optionsHelp()', // the answer to -o help
  'src/core/volumes/pools.ts: error.message', // that of within()
  'src/lib/cleanup.ts: errors', // several at once
  'src/lib/deadline.ts: message', // what within() was given
  'src/servers/admin/admin.ts: error.message', // Express, about a request that it cannot read
];

describe('docs/troubleshooting.md', () => {
  let messages: readonly Message[];
  let opaque: readonly string[];
  let docs: readonly string[];

  before(() => {
    const classes = errorClasses(read('src/errors/errors.ts'));
    const paths = globSync('src/**/*.ts', { cwd: repository }).sort();
    const shown = paths.filter(path => !notShown.some(prefix => path.startsWith(prefix)));
    const collected = shown.map(path => collect(read(path), classes));
    messages = collected.flatMap(file => file.messages);
    opaque = collected.flatMap(file => file.opaque);
    docs = documented(read('docs/troubleshooting.md').text);
  });

  it('has every message that varve can show', () => {
    expect(messages).to.have.lengthOf.above(150);
    expect(undocumented(messages, docs)).to.deep.equal([]);
  });

  it('has no message that varve does not show', () => {
    expect(unknown(messages, docs)).to.deep.equal([]);
  });

  it('leaves out no error whose text is put together where nobody looks', () => {
    expect([...new Set(opaque)].sort()).to.deep.equal(madeElsewhere);
  });

  it('misses a planted message, and a planted line of the docs', () => {
    const planted: SourceFile = {
      path: 'src/core/a.ts',
      text: [
        "const reason = 'it is ' + color + ' today';",
        `if (a) throw new NotFound(\`no moon in \${place}; \${reason}\`);`,
        "if (b) throw new Unheard('of ' + 'this class');",
        'throw new NotFound(elsewhere);',
      ].join('\n'),
    };
    const found = collect(planted, new Set(['NotFound']));
    const good = ['no moon in PLACE; it is <color> today', 'of this class'];
    expect(undocumented(found.messages, good)).to.deep.equal([]);
    expect(unknown(found.messages, good)).to.deep.equal([]);
    expect(undocumented(found.messages, ['no moon in PLACE; it is <color>'])).to.deep.equal([
      'src/core/a.ts:2 no moon in <…>; it is <…> today',
      'src/core/a.ts:3 of this class',
    ]);
    expect(unknown(found.messages, [...good, 'no sun'])).to.deep.equal(['no sun']);
    expect(found.opaque).to.deep.equal(['src/core/a.ts: elsewhere']);
  });

  it('misses a planted sentence of the configuration, which the docs show with its key', () => {
    const text = `const way = \`paint it in \${color}\`;\nreturn { doc: 'not a message at all', message: way };`;
    const { messages: found } = collect({ path: 'src/config/a.ts', text }, new Set());
    expect(undocumented(found, ['root is "/x"; paint it in COLOR'])).to.deep.equal([]);
    expect(undocumented(found, ['root is "/x"'])).to.deep.equal(['src/config/a.ts:1 paint it in <…>']);
  });
});

function read(path: string): SourceFile {
  return { path, text: readFileSync(join(repository, path), 'utf8') };
}
