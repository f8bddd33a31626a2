import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { environment, startDaemon, type TestDaemon } from '../../support/daemon.ts';

const program = new URL('../../../src/cli/varve.ts', import.meta.url).pathname;

describe('S12 a managed plugin that cannot start', () => {
  let daemon: TestDaemon;

  beforeEach(async () => {
    daemon = await startDaemon({ start: false, config: { managed: true } });
    mkdirSync(daemon.root);
    writeFileSync(join(daemon.root, 'state.db'), 'this is no database');
  });

  afterEach(() => daemon.dispose());

  it('says why, and stays until the engine has given it up', async () => {
    const args = [program, 'daemon', '--config', join(daemon.directory, 'config.yaml')];
    const child = spawn(process.execPath, args, { env: environment, stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      let said = '';
      child.stderr.on('data', (text: Buffer) => {
        said += text.toString();
      });
      await until('the daemon to say why', 20_000, () => said.includes('varve state rebuild'));
      expect([child.exitCode, child.signalCode]).to.deep.equal([null, null]);
      child.kill('SIGTERM');
      const [code] = await once(child, 'exit');
      expect(code).not.to.equal(0);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
