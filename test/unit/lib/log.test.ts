import { expect } from 'chai';
import { run } from '../../../scripts/lib/process.ts';

const log = new URL('../../../src/lib/log.ts', import.meta.url).pathname;

/** What a process prints that logs one line of each level. */
function logAll(managed: boolean) {
  const script = `
    import { createLogger } from ${JSON.stringify(log)};
    const logger = createLogger({ level: 'debug', format: 'text' }, ${managed});
    for (const level of ['error', 'warn', 'info', 'debug']) logger[level](level + '-line');`;
  return run(process.execPath, ['--input-type=module-typescript', '--eval', script]);
}

const lines = (text: string) => text.match(/\w+-line/g) ?? [];

describe('the log', () => {
  it('goes to standard error', async () => {
    const { stdout, stderr } = await logAll(false);
    expect(lines(stderr)).to.deep.equal(['error-line', 'warn-line', 'info-line', 'debug-line']);
    expect(stdout).to.equal('');
  });

  it('S12 of a managed plugin tells the engine by the stream what is amiss and what is not', async () => {
    const { stdout, stderr } = await logAll(true);
    expect(lines(stderr)).to.deep.equal(['error-line', 'warn-line']);
    expect(lines(stdout)).to.deep.equal(['info-line', 'debug-line']);
  });
});
