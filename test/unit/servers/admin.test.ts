import { expect } from 'chai';
import type { StatusView } from '../../../src/core/volumes/view.ts';
import { adminApp } from '../../../src/servers/admin/admin.ts';
import { layerFace } from '../../support/layer-face.ts';
import { type Answer, request, type Served, serveApp } from '../../support/raw-client.ts';
import { type Daemon, Host, runContainer } from '../../support/world.ts';

describe('the admin socket', () => {
  let host: Host;
  let daemon: Daemon;
  let served: Served;

  beforeEach(async () => {
    host = new Host();
    daemon = await host.start();
    const status = () => ({ version: '1.2.3' }) as StatusView;
    served = await serveApp(
      adminApp({ ...daemon, ...layerFace(), state: daemon, status, ready: Promise.resolve() }),
    );
  });

  afterEach(() => served.close());

  const ask = (method: string, path: string, body?: unknown) =>
    served.raw(request(method, path, body === undefined ? '' : JSON.stringify(body)));
  const codeOf = (answer: Answer) => [answer?.status, (answer?.body as { code: string } | undefined)?.code];
  const messageOf = (answer: Answer) => (answer?.body as { message: string } | undefined)?.message ?? '';

  it('creates, shows, protects, measures and removes a volume', async () => {
    const created = await ask('POST', '/v1/volumes', { name: 'db', options: { mode: '0700', uid: '' } });
    expect(created?.status).to.equal(201);
    expect(created?.body).to.include({ name: 'db', driver: 'varve', phase: 'Ready', protected: false });
    expect((await ask('GET', '/v1/volumes/db'))?.body).to.deep.equal(created?.body);
    expect((await ask('GET', '/v1/volumes'))?.body).to.deep.equal([created?.body]);
    expect((await ask('POST', '/v1/volumes/db/protect'))?.body).to.include({ protected: true });
    expect(codeOf(await ask('DELETE', '/v1/volumes/db'))).to.deep.equal([409, 'FailedPrecondition']);
    expect((await ask('POST', '/v1/volumes/db/unprotect'))?.body).to.include({ protected: false });
    const measured = (await ask('POST', '/v1/volumes/db/measure'))?.body as { usage: object };
    expect(measured.usage).to.include({ bytes: 0, inodes: 1 });
    expect(await ask('DELETE', '/v1/volumes/db')).to.deep.equal({ status: 204, body: undefined });
    expect((await ask('GET', '/v1/volumes'))?.body).to.deep.equal([]);
  });

  it('shows the status, and exports and checks the state', async () => {
    await ask('POST', '/v1/volumes', { name: 'db' });
    expect(await ask('GET', '/v1/status')).to.deep.equal({ status: 200, body: { version: '1.2.3' } });
    expect((await ask('GET', '/v1/state/export'))?.body).to.include({ version: 1 });
    expect((await ask('POST', '/v1/state/check'))?.body).to.deep.equal([]);
    host.memory.write(`${host.poolPath}/1/volume.json`, '{');
    const check = async (query: string) => (await ask('POST', `/v1/state/check${query}`))?.body as object[];
    expect((await check(''))[0]).to.include({ problem: 'damaged-manifest', repaired: false });
    expect((await check('?repair=false'))[0]).to.include({ repaired: false });
    expect((await check('?repair=true'))[0]).to.include({ repaired: true });
    expect(await check('')).to.deep.equal([]);
  });

  it('answers each failure with its status, code and message', async () => {
    await ask('POST', '/v1/volumes', { name: 'db' });
    runContainer(host, 7);
    const cases = [
      ['GET', '/v1/volumes/none', undefined, 404, 'NotFound'],
      ['GET', '/v1/volumes/..%2Fetc', undefined, 400, 'InvalidArgument'],
      ['GET', '/v1/volumes/%E0%A4%A', undefined, 400, 'InvalidArgument'],
      ['DELETE', '/v1/volumes/none', undefined, 404, 'NotFound'],
      ['DELETE', '/v1/volumes/db', undefined, 409, 'FailedPrecondition'],
      ['POST', '/v1/volumes/none/protect', undefined, 404, 'NotFound'],
      ['POST', '/v1/volumes/none/measure', undefined, 404, 'NotFound'],
      ['POST', '/v1/volumes', {}, 400, 'InvalidArgument'],
      ['POST', '/v1/volumes', undefined, 400, 'InvalidArgument'],
      ['POST', '/v1/volumes', [], 400, 'InvalidArgument'],
      ['POST', '/v1/volumes', { name: 'x', options: 'mode=1' }, 400, 'InvalidArgument'],
      ['POST', '/v1/volumes', { name: 'x', options: { mode: 7 } }, 400, 'InvalidArgument'],
      ['POST', '/v1/volumes', { name: 'x', options: { siez: '1' } }, 400, 'InvalidArgument'],
      ['POST', '/v1/volumes', { name: 'x', driver: 'nas' }, 404, 'NotFound'],
      ['POST', '/v1/volumes', { name: 'x', options: { size: '1g' } }, 501, 'Unimplemented'],
      ['POST', '/v1/volumes', { name: 'db', options: { mode: '0700' } }, 409, 'AlreadyExists'],
      ['PUT', '/v1/volumes/db', {}, 404, 'NotFound'],
      ['GET', '/nothing', undefined, 404, 'NotFound'],
    ] as const;
    for (const [method, path, body, status, code] of cases) {
      const answer = await ask(method, path, body);
      expect(codeOf(answer), `${method} ${path} ${JSON.stringify(body)}`).to.deep.equal([status, code]);
      expect(messageOf(answer)).not.to.equal('');
    }
    host.memory.takeAway(host.poolPath);
    expect(codeOf(await ask('DELETE', '/v1/volumes/db'))).to.deep.equal([503, 'Unavailable']);
  });

  it('names the drivers when it does not know one, and the route when it has none', async () => {
    const unknown = await ask('POST', '/v1/volumes', { name: 'x', driver: 'nas' });
    expect(messageOf(unknown)).to.equal('no such driver: nas; the drivers are: varve');
    expect(messageOf(await ask('GET', '/nothing'))).to.equal('the admin socket has no GET "/nothing"');
  });

  for (const body of ['{', 'db', 'null', '\0']) {
    it(`refuses the body ${JSON.stringify(body)}`, async () => {
      expect(codeOf(await served.raw(request('POST', '/v1/volumes', body)))).to.deep.equal([
        400,
        'InvalidArgument',
      ]);
    });
  }

  it('holds requests until the state is loaded', async () => {
    const ready = Promise.withResolvers<void>();
    const status = () => ({ version: '1' }) as StatusView;
    const app = adminApp({ ...daemon, ...layerFace(), state: daemon, status, ready: ready.promise });
    const late = await serveApp(app);
    let isAnswered = false;
    const answer = late.raw(request('GET', '/v1/status')).finally(() => {
      isAnswered = true;
    });
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(isAnswered).to.equal(false);
    ready.resolve();
    expect((await answer)?.status).to.equal(200);
    await late.close();
  });
});
