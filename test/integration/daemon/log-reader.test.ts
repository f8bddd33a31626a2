import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { varveScript } from '../../../scripts/lib/paths.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { environment, isUp, startDaemon, type TestDaemon } from '../../support/daemon.ts';

describe('a daemon whose messages nobody reads any more', () => {
  let daemon: TestDaemon;

  afterEach(() => daemon.dispose());

  for (const managed of [false, true]) {
    const title = managed ? 'S12 goes on as a managed plugin too' : 'goes on, and leaves no socket behind';
    it(title, () => outlivesItsReader(managed));
  }

  async function outlivesItsReader(managed: boolean): Promise<void> {
    daemon = await startDaemon({ start: false, config: { debug: true, managed } });
    const args = [varveScript, 'daemon', '--config', join(daemon.directory, 'config.yaml')];
    const child = spawn(process.execPath, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    try {
      await until('the daemon to answer', 20_000, () => isUp(daemon.adminSocket));
      child.stdout.destroy();
      child.stderr.destroy();
      for (let call = 0; call < 3; call += 1) {
        expect(await daemon.plugin('VolumeDriver.List')).to.have.property('status', 200);
      }
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).to.deep.equal([0, null]);
      expect(existsSync(daemon.socket)).to.equal(false);
    } finally {
      child.kill('SIGKILL');
    }
  }
});
