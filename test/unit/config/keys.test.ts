import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { configKeys, environmentName, flagName, scalarKeys } from '../../../src/config/keys.ts';

describe('the keys of the configuration', () => {
  it('are those that the design names', () => {
    expect(configKeys.map(({ key }) => key)).to.deep.equal([
      ...['root', 'mountPoints', 'run', 'adminSocket', 'engine', 'log.level', 'log.format'],
      ...[
        'intervals.reconcileSeconds',
        'intervals.usageSeconds',
        'debug',
        'managed',
        'pools.NAME.driver',
        'pools.NAME.path',
        'layerStores.NAME.driver',
        'layerStores.NAME.path',
      ],
      ...['drivers.NAME.pool', 'drivers.NAME.socket', 'drivers.NAME.options', 'drivers.NAME.layerStore'],
      'drivers.NAME.tcp.address',
      ...['drivers.NAME.tcp.insecure', 'drivers.NAME.tcp.tls.certFile', 'drivers.NAME.tcp.tls.keyFile'],
      'drivers.NAME.tcp.tls.caFile',
      ...['socket', 'layerStore', 'containerd', 'limit', 'sync'].map(key => `snapshotters.NAME.${key}`),
    ]);
  });

  it('that exist once have a variable and a flag', () => {
    expect(scalarKeys.map(environmentName)).to.deep.equal([
      ...[
        'VARVE_ROOT',
        'VARVE_MOUNT_POINTS',
        'VARVE_RUN',
        'VARVE_ADMIN_SOCKET',
        'VARVE_ENGINE',
        'VARVE_LOG_LEVEL',
        'VARVE_LOG_FORMAT',
      ],
      ...[
        'VARVE_INTERVALS_RECONCILE_SECONDS',
        'VARVE_INTERVALS_USAGE_SECONDS',
        'VARVE_DEBUG',
        'VARVE_MANAGED',
      ],
    ]);
    expect(scalarKeys.map(flagName)).to.include.members([
      '--root',
      '--admin-socket',
      '--intervals-usage-seconds',
    ]);
  });

  it('carry their unit in their name, where they have one', () => {
    for (const { key, unit } of configKeys) expect(key.endsWith('Seconds'), key).to.equal(unit === 's');
  });

  describe('in docs/configuration.md', () => {
    const docs = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8').split('\n');

    for (const { key, type, defaultText, unit, doc } of configKeys) {
      it(`${key} has its type, default, unit and meaning`, () => {
        const fallback = defaultText === null ? 'required' : `\`${defaultText}\``;
        expect(docs).to.include(`| \`${key}\` | ${type} | ${fallback} | ${unit ?? ''} | ${doc} |`);
      });
    }

    it('are no others', () => {
      const rows = docs.filter(line => /^\| `[a-z]/.test(line));
      expect(rows).to.have.length(configKeys.length);
    });
  });
});
