import { expect } from 'chai';
import { escapedPath, parseOverlay, showsTheSame } from '../../../src/host/linux/overlay-options.ts';

describe('options of an overlay', () => {
  it('are taken apart, with what is escaped in paths', () => {
    const options = [
      'index=off',
      'userxattr',
      'upperdir=/a\\,b',
      'workdir=/w\\\\x',
      'lowerdir=/a\\:b:/c\\\\:l',
    ];
    expect(parseOverlay(options)).to.deep.equal({
      lowers: ['/a:b', '/c\\', 'l'],
      upper: '/a,b',
      work: '/w\\x',
      settings: ['index=off', 'userxattr'],
    });
  });

  it('have each lower directory by itself, as it is, when they come from fsconfig(2)', () => {
    const { lowers, upper } = parseOverlay(['ro', 'lowerdir+=/a:b,c\\d', 'lowerdir+=/e=f']);
    expect({ lowers, upper }).to.deep.equal({ lowers: ['/a:b,c\\d', '/e=f'], upper: undefined });
  });

  it('are the same when they name the same directories, however they are written', () => {
    const one = parseOverlay(['lowerdir=/a\\:b:/c', 'upperdir=/u', 'index=off']);
    const other = parseOverlay(['lowerdir+=/a:b', 'lowerdir+=/c', 'upperdir=/u', 'rw']);
    expect(showsTheSame(one, other)).to.equal(true);
    expect(showsTheSame(one, parseOverlay(['lowerdir=/a\\:b:/c']))).to.equal(false);
    expect(showsTheSame(one, parseOverlay(['lowerdir=/c:/a\\:b', 'upperdir=/u']))).to.equal(false);
  });

  it('read back what was escaped', () => {
    const path = '/a:b,c\\d e';
    expect(parseOverlay([`upperdir=${escapedPath(path)}`]).upper).to.equal(path);
  });
});
