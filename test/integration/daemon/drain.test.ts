import { Agent, request } from 'node:http';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { holdSocket } from '../../support/held-socket.ts';

const restarts = 5;

describe('S13 a restart on a socket that somebody holds', () => {
  let daemon: TestDaemon;
  let held: ReturnType<typeof holdSocket>;

  beforeEach(async () => {
    daemon = await startDaemon({ start: false });
    held = holdSocket(daemon.socket);
  });

  afterEach(async () => {
    await daemon.dispose();
    held.close();
  });

  it('fails no call, not of an engine that keeps its connections either', async () => {
    const start = () => daemon.start({ passed: { [daemon.driver]: held.fd } });
    const agent = new Agent({ keepAlive: true });
    const outcomes: string[] = [];
    let isOver = false;
    const calls = (async () => {
      while (!isOver) outcomes.push(await callOnce(daemon.socket, agent));
    })();
    try {
      for (let restart = 0; restart < restarts; restart += 1) {
        await start();
        const before = outcomes.length;
        await until('calls on the new daemon', 10_000, () => outcomes.length > before + 20);
        await daemon.stop();
      }
      await start();
    } finally {
      isOver = true;
      await calls;
      agent.destroy();
    }
    expect(new Set(outcomes)).to.deep.equal(new Set(['200']));
  });
});

/** The status, or what went wrong. */
function callOnce(socketPath: string, agent: Agent): Promise<string> {
  return new Promise(resolve => {
    const options = { socketPath, agent, path: '/VolumeDriver.List', method: 'POST', timeout: 20_000 };
    const call = request(options, response => {
      response.resume();
      response.on('end', () => resolve(String(response.statusCode)));
    });
    call.on('timeout', () => call.destroy(new Error('no answer within 20 s')));
    call.on('error', error => resolve(`${error.message} (reused: ${call.reusedSocket})`));
    call.end('{}');
  });
}
