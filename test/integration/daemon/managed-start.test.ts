import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { varveScript } from '../../../scripts/lib/paths.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { exitCodes } from '../../../src/errors/to-exit-code.ts';
import { environment, startDaemon, type TestDaemon } from '../../support/daemon.ts';

describe('S12 a managed plugin that cannot start says why, and stays until the engine has given it up', () => {
  let daemon: TestDaemon;

  beforeEach(async () => {
    daemon = await startDaemon({ start: false });
    mkdirSync(daemon.root);
  });

  afterEach(() => daemon.dispose());

  it('when its state is damaged', async () => {
    writeFileSync(join(daemon.root, 'state.db'), 'this is no database');
    await expectToStay({}, 'varve state rebuild', exitCodes.conflict.code);
  });

  it('when a setting is wrong', async () => {
    await expectToStay({ VARVE_LOG_LEVEL: 'verbose' }, 'VARVE_LOG_LEVEL: log.level is', exitCodes.usage.code);
  });

  async function expectToStay(settings: Record<string, string>, reason: string, code: number): Promise<void> {
    const config = join(daemon.directory, 'config.yaml');
    const args = [varveScript, 'daemon', '--managed=true', '--config', config];
    const env = { ...environment, ...settings };
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      let said = '';
      child.stderr.on('data', (text: Buffer) => {
        said += text.toString();
      });
      await until('the daemon to say why', 20_000, () => said.includes(reason));
      // Far longer than a process that ends takes to do so.
      expect((await daemon.varve('status')).exitCode).to.equal(exitCodes.unavailable.code);
      expect([child.exitCode, child.signalCode]).to.deep.equal([null, null]);
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).to.deep.equal([code, null]);
    } finally {
      child.kill('SIGKILL');
    }
  }
});
