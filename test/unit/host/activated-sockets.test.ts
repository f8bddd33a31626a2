import { expect } from 'chai';
import { InvalidArgument } from '../../../src/errors/errors.ts';
import { activatedSockets } from '../../../src/host/linux/listen.ts';

const parse = (env: NodeJS.ProcessEnv) => Object.fromEntries(activatedSockets(env, 42));

describe('activatedSockets', () => {
  it('numbers the sockets from 3, in the order of their names', () => {
    const env = { LISTEN_PID: '42', LISTEN_FDS: '2', LISTEN_FDNAMES: 'plugin:admin' };
    expect(parse(env)).to.deep.equal({ plugin: 3, admin: 4 });
  });

  it('is empty without the variables, and when they are meant for another process', () => {
    expect(parse({})).to.deep.equal({});
    expect(parse({ LISTEN_PID: '43', LISTEN_FDS: '1', LISTEN_FDNAMES: 'plugin' })).to.deep.equal({});
    expect(parse({ LISTEN_FDS: '1' })).to.deep.equal({});
  });

  it('calls a socket without a name unknown, as systemd does', () => {
    expect(parse({ LISTEN_PID: '42', LISTEN_FDS: '1' })).to.deep.equal({ unknown: 3 });
  });

  it('refuses two sockets of one name, and a count that is none', () => {
    const twice = { LISTEN_PID: '42', LISTEN_FDS: '2', LISTEN_FDNAMES: 'a:a' };
    expect(() => parse(twice)).to.throw(InvalidArgument, 'FileDescriptorName=');
    expect(() => parse({ LISTEN_PID: '42', LISTEN_FDS: 'x' })).to.throw(InvalidArgument, 'LISTEN_FDS');
  });
});
