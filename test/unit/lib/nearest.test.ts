import { expect } from 'chai';
import { nearest } from '../../../src/lib/nearest.ts';

describe('nearest', () => {
  const keys = ['size', 'uid', 'gid', 'mode', 'from-path', 'adminSocket'];

  it('finds what a typing error meant', () => {
    expect(nearest('siez', keys)).to.equal('size');
    expect(nearest('mdoe', keys)).to.equal('mode');
    expect(nearest('udi', keys)).to.equal('uid');
    expect(nearest('fromPath', keys)).to.equal('from-path');
    expect(nearest('ADMIN_SOCKET', keys)).to.equal('adminSocket');
  });

  it('takes a beginning for the whole', () => {
    expect(nearest('admin', keys)).to.equal('adminSocket');
  });

  it('prefers an exact match', () => {
    expect(nearest('gid', keys)).to.equal('gid');
  });

  it('guesses nothing when nothing is similar', () => {
    expect(nearest('compression', keys)).to.equal(undefined);
    expect(nearest('x', keys)).to.equal(undefined);
    expect(nearest('size', [])).to.equal(undefined);
  });
});
