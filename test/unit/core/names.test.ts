import { expect } from 'chai';
import fc from 'fast-check';
import {
  parseDriverName,
  parseMountId,
  parsePoolName,
  parseVolumeName,
  parseVolumeNumber,
  show,
} from '../../../src/core/names.ts';
import { InvalidArgument } from '../../../src/errors/errors.ts';

/** moby, daemon/names: RestrictedNameChars. */
const dockerLocal = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

function accepts(parse: (raw: unknown) => unknown, raw: unknown): boolean {
  try {
    return parse(raw) === raw;
  } catch (error) {
    if (error instanceof InvalidArgument) return false;
    throw error;
  }
}

describe('names', () => {
  const anything = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.string({ unit: fc.constantFrom('a', '.', '/', '\0', '-', '_', '\n', 'é', ' '), maxLength: 8 }),
  );

  it('accepts a volume name exactly when it is safe as a file name and docker local would take it', () => {
    fc.assert(
      fc.property(anything, raw => {
        const isSafe = (dockerLocal.test(raw) || /^[a-zA-Z0-9]$/.test(raw)) && raw.length <= 255;
        expect(accepts(parseVolumeName, raw)).to.equal(isSafe);
      }),
      { numRuns: 2_000 },
    );
  });

  it('accepts what docker local accepts', () => {
    fc.assert(
      fc.property(fc.stringMatching(dockerLocal), name => {
        fc.pre(name.length <= 255);
        expect(parseVolumeName(name)).to.equal(name);
      }),
    );
    for (const name of ['db', 'My_Project_db.1', 'a..', 'a'.repeat(255), '0'.repeat(64)]) {
      expect(parseVolumeName(name), name).to.equal(name);
    }
  });

  for (const raw of [
    '',
    '.',
    '..',
    'a/b',
    '../etc',
    '/etc',
    'a\0b',
    'a\n',
    'a b',
    'ünï',
    '-a',
    '_a',
    'a'.repeat(256),
  ]) {
    it(`refuses the volume name ${show(raw)}`, () => {
      expect(() => parseVolumeName(raw)).to.throw(InvalidArgument, /volume name/);
    });
  }

  it('refuses what is no text, and says that the name is missing', () => {
    for (const raw of [undefined, null, 7, {}, ['db'], true]) {
      expect(() => parseVolumeName(raw)).to.throw(InvalidArgument, 'the volume name is missing');
    }
  });

  it('takes only small letters, digits and inner dashes for a pool, so that mount points can be read back', () => {
    for (const name of ['default', 'a', 'nas-2']) expect(accepts(parsePoolName, name), name).to.equal(true);
    for (const name of ['A', '-a', 'a-', 'a_b', 'a.b', '', 'a'.repeat(64)]) {
      expect(accepts(parsePoolName, name), name).to.equal(false);
    }
  });

  it('takes a driver name that can be a socket file', () => {
    expect(parseDriverName('varve')).to.equal('varve');
    for (const name of ['', '..', 'a/b', 'a'.repeat(64)])
      expect(accepts(parseDriverName, name)).to.equal(false);
  });

  it('takes printable mount ids of up to 255 characters', () => {
    expect(parseMountId('f'.repeat(64))).to.equal('f'.repeat(64));
    for (const id of ['', 'a b', 'a\n', 'é', 'x'.repeat(256)]) {
      expect(accepts(parseMountId, id), show(id)).to.equal(false);
    }
  });

  it('takes whole positive volume numbers, as numbers or in their one spelling as text', () => {
    expect(parseVolumeNumber('12')).to.equal(12);
    expect(parseVolumeNumber(12)).to.equal(12);
    for (const raw of [0, -1, 1.5, Number.NaN, 2 ** 53, '01', '1e3', ' 1', '', null, '9'.repeat(16)]) {
      expect(() => parseVolumeNumber(raw), String(raw)).to.throw(InvalidArgument);
    }
  });

  it('shows any value of the caller in at most 80 characters', () => {
    fc.assert(fc.property(fc.jsonValue(), raw => show(raw).length <= 80));
    expect(show(undefined)).to.equal('undefined');
    expect(show('x'.repeat(100))).to.match(/^"x{75}\.\.\."$/);
  });
});
