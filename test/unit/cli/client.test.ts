import { join } from 'node:path';
import { expect } from 'chai';
import { type AdminClient, adminClient } from '../../../src/cli/client.ts';
import * as errors from '../../../src/errors/errors.ts';
import { AdminServer, volumeView } from './admin-server.ts';

describe('the client of the admin socket', () => {
  const server = new AdminServer();
  let client: AdminClient;

  before(async () => {
    await server.start();
    client = adminClient(server.socket);
  });
  after(() => server.stop());
  beforeEach(() => {
    server.asked.length = 0;
  });

  const rejection = async (promise: Promise<unknown>): Promise<Error> => {
    const error: unknown = await promise.then(
      () => undefined,
      reason => reason,
    );
    if (!(error instanceof Error)) throw new Error('it did not reject');
    return error;
  };

  it('asks what the API has', async () => {
    server.answer = line => (line.startsWith('DELETE') ? { status: 204 } : { status: 200, body: [] });
    await client.volumes();
    await client.volume('db');
    await client.createVolume({ name: 'db', options: { uid: '1' }, driver: 'nas' });
    await client.removeVolume('db');
    await client.protectVolume('db', true);
    await client.protectVolume('db', false);
    await client.measureVolume('db');
    await client.status();
    await client.exportState();
    await client.checkState(true);
    expect(server.asked.map(({ line }) => line)).to.deep.equal([
      'GET /v1/volumes',
      'GET /v1/volumes/db',
      'POST /v1/volumes',
      'DELETE /v1/volumes/db',
      'POST /v1/volumes/db/protect',
      'POST /v1/volumes/db/unprotect',
      'POST /v1/volumes/db/measure',
      'GET /v1/status',
      'GET /v1/state/export',
      'POST /v1/state/check?repair=true',
    ]);
    expect(server.asked[2]?.body).to.deep.equal({ name: 'db', options: { uid: '1' }, driver: 'nas' });
  });

  it('returns what the daemon answers', async () => {
    server.answer = () => ({ status: 200, body: volumeView() });
    expect(await client.volume('db')).to.deep.equal(volumeView());
  });

  it('keeps a name within one segment of the path', async () => {
    server.answer = () => ({ status: 200, body: volumeView() });
    await client.volume('../a b/?#%');
    expect(server.asked[0]?.line).to.equal('GET /v1/volumes/..%2Fa%20b%2F%3F%23%25');
  });

  const classes = [
    errors.InvalidArgument,
    errors.NotFound,
    errors.AlreadyExists,
    errors.FailedPrecondition,
    errors.Aborted,
    errors.Exhausted,
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.Unimplemented,
    errors.Internal,
  ];
  for (const Failure of classes) {
    it(`rejects with ${Failure.name} when the daemon says so`, async () => {
      server.answer = () => ({ status: 500, body: { code: Failure.name, message: 'volume db is odd' } });
      const error = await rejection(client.volume('db'));
      expect(error).to.be.instanceOf(Failure);
      expect(error.message).to.equal('volume db is odd');
    });
  }

  it('rejects with Internal what it does not understand', async () => {
    for (const answer of [
      { status: 500, text: '<html>' },
      { status: 404, body: { code: 'constructor', message: 'x' } },
      { status: 500, body: { message: 'x' } },
      { status: 200, text: 'not JSON' },
      { status: 500, text: 'null' },
    ]) {
      server.answer = () => answer;
      const error = await rejection(client.volumes());
      expect(error).to.be.instanceOf(errors.Internal);
      expect(error.message).to.include(`GET /v1/volumes with status ${answer.status}`);
    }
  });

  it('rejects with Unavailable when the connection breaks off', async () => {
    server.answer = () => undefined;
    const error = await rejection(client.status());
    expect(error).to.be.instanceOf(errors.Unavailable);
    expect(error.message).to.include('broke off GET /v1/status');
  });

  it('rejects with DeadlineExceeded when no answer comes in time', async () => {
    const silent = new AdminServer();
    await silent.start();
    try {
      silent.answer = () => 'silence';
      const impatient = adminClient(silent.socket, { promptly: 20, patiently: 20 });
      const error = await rejection(impatient.volumes());
      expect(error).to.be.instanceOf(errors.DeadlineExceeded);
      expect(error.message).to.include('GET /v1/volumes within 0.02 s');
    } finally {
      await silent.stop();
    }
  });

  it('rejects with Unavailable and the way out when no daemon is there', async () => {
    const missing = join(server.directory, 'missing.sock');
    const error = await rejection(adminClient(missing).volumes());
    expect(error).to.be.instanceOf(errors.Unavailable);
    expect(error.message).to.equal(
      `the varve daemon does not answer on ${missing}; start it with \`varve daemon\`, or name its socket with --socket or VARVE_SOCKET`,
    );
  });
});
