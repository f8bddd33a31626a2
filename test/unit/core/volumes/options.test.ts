import { expect } from 'chai';
import fc from 'fast-check';
import {
  describeDifference,
  givenOptions,
  parseOptions,
  volumeOptions,
} from '../../../../src/core/volumes/options.ts';
import { InvalidArgument } from '../../../../src/errors/errors.ts';

describe('the options of a volume', () => {
  it('are all read', () => {
    const options = {
      uid: '1000',
      gid: '0',
      mode: '0750',
      pool: 'nas',
      size: '10Gi',
      protect: 'true',
      'from-path': '/srv/a',
    };
    expect(parseOptions(options)).to.deep.equal({
      attributes: { uid: 1000, gid: 0, mode: 0o750 },
      pool: 'nas',
      protect: true,
      fromPath: '/srv/a',
      sizeBytes: 10 * 2 ** 30,
    });
  });

  it('may all be left out', () => {
    expect(parseOptions({})).to.deep.equal({ attributes: {}, protect: false });
  });

  it('S14 an option with an empty value counts as not given', () => {
    const empty = Object.fromEntries(Object.keys(volumeOptions).map(name => [name, '']));
    delete empty['help'];
    expect(givenOptions({ ...empty, mode: '0700' })).to.deep.equal({ mode: '0700' });
    expect(givenOptions({ diskid: '', host: '' })).to.deep.equal({});
  });

  for (const [typo, meant] of [
    ['siez', 'size'],
    ['Mode', 'mode'],
    ['from_path', 'from-path'],
    ['protected', 'protect'],
    ['user-id', undefined],
  ] as const) {
    it(`an unknown one (${typo}) is refused with ${meant === undefined ? 'the list' : `"${meant}" and the list`}`, () => {
      const guess =
        meant === undefined ? /unknown option "user-id"\. The/ : new RegExp(`did you mean "${meant}"`);
      expect(() => parseOptions({ [typo]: '1' })).to.throw(InvalidArgument, guess);
      for (const known of Object.keys(volumeOptions)) {
        expect(() => parseOptions({ [typo]: '1' })).to.throw(known);
      }
    });
  }

  it('names of the language itself are unknown options like any other', () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      const options = JSON.parse(`{"${name}": "1"}`) as Record<string, string>;
      expect(() => parseOptions(givenOptions(options)), name).to.throw(InvalidArgument, 'unknown option');
    }
  });

  it('-o help explains every option, with or without a value, and creates nothing', () => {
    for (const help of ['', 'true']) {
      const given = givenOptions({ help });
      expect(() => parseOptions(given)).to.throw(InvalidArgument, 'Nothing was created');
      for (const name of Object.keys(volumeOptions)) expect(() => parseOptions(given)).to.throw(name);
    }
  });

  const bad: Readonly<Record<string, readonly string[]>> = {
    uid: ['-1', '1.5', 'root', '4294967295', '99999999999', ' 1', '0x10', '1e3'],
    gid: ['-1', 'wheel', '4294967295'],
    mode: ['8', '77', '0888', '10000', '17777', 'rwx', '-755', '0o755', ' 755'],
    pool: ['Default', '../x', 'a/b', '-'],
    size: ['0', 'big', '-1g', '1gg'],
    protect: ['yes', 'True', '2', ' true'],
    'from-path': ['srv', './srv', '/srv/../etc', '/..', '..', 'C:\\', '/a\0b'],
  };
  for (const [name, values] of Object.entries(bad)) {
    for (const value of values) {
      it(`refuses ${name}=${JSON.stringify(value)} and names the option and the value`, () => {
        expect(() => parseOptions({ [name]: value })).to.throw(InvalidArgument, name.split('-')[0] ?? name);
      });
    }
  }

  it('the highest id is 2^32 - 2, since the next one means "no change" to chown', () => {
    expect(parseOptions({ uid: '4294967294' }).attributes.uid).to.equal(4294967294);
  });

  it('the set-user-ID bits can be given', () => {
    expect(parseOptions({ mode: '2775' }).attributes.mode).to.equal(0o2775);
    expect(parseOptions({ mode: '01777' }).attributes.mode).to.equal(0o1777);
  });

  it('from-path has one spelling', () => {
    expect(parseOptions({ 'from-path': '//srv/./a/' }).fromPath).to.equal('/srv/a');
    expect(parseOptions({ 'from-path': '/' }).fromPath).to.equal('/');
  });

  it('never ends in anything but a request or an InvalidArgument', () => {
    const name = fc.oneof(fc.constantFrom(...Object.keys(volumeOptions)), fc.string());
    fc.assert(
      fc.property(fc.dictionary(name, fc.string({ unit: 'binary' })), options => {
        try {
          parseOptions(givenOptions(options));
        } catch (error) {
          expect(error).to.be.instanceOf(InvalidArgument);
        }
      }),
    );
  });

  it('differences are named with both values, in the order of the names', () => {
    expect(describeDifference({ mode: '0700', uid: '1' }, { mode: '0700', uid: '1' })).to.equal('');
    expect(describeDifference({ mode: '0700', uid: '1' }, { uid: '2', gid: '3' })).to.equal(
      'gid is "not set", asked for "3"; mode is "0700", asked for "not set"; uid is "1", asked for "2"',
    );
  });
});
