import { expect } from 'chai';
import fc from 'fast-check';
import {
  escapeMountField,
  isWithin,
  parseMountinfo,
  placeUnder,
  unescapeMountField,
} from '../../../src/host/linux/mountinfo.ts';

const table = `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
21 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
99 36 0:44 / /a\\040b\\011c\\012d\\134e rw shared:9 master:3 propagate_from:2 - fuse.sshfs us\\040er@host:/ rw,user_id=0
100 36 0:45 /vol//deleted /gone ro - tmpfs - rw
`;

describe('parseMountinfo', () => {
  const [first, second, third, fourth, ...rest] = parseMountinfo(table);

  it('reads every field of the line that proc(5) explains', () => {
    expect(first).to.deep.equal({
      id: 36,
      parent: 35,
      device: '98:0',
      root: '/mnt1',
      mountPoint: '/mnt2',
      options: ['rw', 'noatime'],
      propagation: ['master:1'],
      fsType: 'ext3',
      source: '/dev/root',
      superOptions: ['rw', 'errors=continue'],
    });
    expect(rest).to.deep.equal([]);
  });

  it('takes any number of tags', () => {
    expect(second?.propagation).to.deep.equal(['shared:7']);
    expect(third?.propagation).to.deep.equal(['shared:9', 'master:3', 'propagate_from:2']);
    expect(fourth?.propagation).to.deep.equal([]);
  });

  it('turns octal escapes back', () => {
    expect(third?.mountPoint).to.equal('/a b\tc\nd\\e');
    expect(third?.source).to.equal('us er@host:/');
  });

  it('does not take a source that is a dash for the separator', () => {
    expect(fourth).to.include({ fsType: 'tmpfs', source: '-', root: '/vol//deleted' });
  });

  it('escapes as the kernel does', () => {
    fc.assert(
      fc.property(fc.string(), path => {
        const field = escapeMountField(path);
        expect(field).not.to.match(/[ \t\n#]/);
        expect(unescapeMountField(field)).to.equal(path);
      }),
    );
  });
});

describe('isWithin', () => {
  it('goes by whole names', () => {
    expect(isWithin('/a/b', '/a')).to.equal(true);
    expect(isWithin('/a', '/a')).to.equal(true);
    expect(isWithin('/ab', '/a')).to.equal(false);
    expect(isWithin('/', '/a')).to.equal(false);
    expect(isWithin('/a', '/')).to.equal(true);
  });
});

describe('placeUnder', () => {
  const entry = (root: string, mountPoint: string) => {
    const [parsed] = parseMountinfo(`1 0 8:1 ${root} ${mountPoint} rw - ext4 /dev/a rw`);
    if (parsed === undefined) throw new Error('no entry');
    return parsed;
  };

  it('says where a path lies in its file system', () => {
    expect(placeUnder(entry('/', '/'), '/a/b')).to.deep.equal({ device: '8:1', path: '/a/b' });
    expect(placeUnder(entry('/', '/'), '/').path).to.equal('/');
    expect(placeUnder(entry('/', '/mnt'), '/mnt').path).to.equal('/');
    expect(placeUnder(entry('/', '/mnt'), '/mnt/a').path).to.equal('/a');
    expect(placeUnder(entry('/@sub', '/mnt'), '/mnt/a').path).to.equal('/@sub/a');
    expect(placeUnder(entry('/@sub', '/'), '/').path).to.equal('/@sub');
  });
});
