import { expect } from 'chai';
import { configText } from '../../../src/cli/commands/config.ts';
import { doctorText } from '../../../src/cli/commands/doctor.ts';
import { findingsText, rebuildText } from '../../../src/cli/commands/state.ts';
import { statusText } from '../../../src/cli/commands/status.ts';
import { addOption } from '../../../src/cli/commands/volume.ts';
import { ago, progressBar, size, table } from '../../../src/cli/output.ts';
import { usageText, volumesText } from '../../../src/cli/volume-text.ts';
import { InvalidArgument } from '../../../src/errors/errors.ts';
import { volumeView } from './admin-server.ts';

const now = new Date('2026-01-02T06:04:05Z');
const cells = (text: string) => text.split('\n').map(line => line.split(/ {3,}/));

describe('a table', () => {
  it('aligns its columns, without borders and without spaces at the end', () => {
    expect(
      table(
        ['NAME', 'SIZE'],
        [
          ['a-long-name', '1'],
          ['b', ''],
        ],
      ),
    ).to.equal('NAME          SIZE\na-long-name   1\nb');
  });

  it('is only its header when there are no rows', () => {
    expect(table(['NAME', 'SIZE'], [])).to.equal('NAME   SIZE');
  });

  it('aligns what a terminal shows wider or narrower than it is long', () => {
    const rows = [
      ['日本', '1'],
      ['e\u0301', '2'],
      ['● x', '3'],
      ['😀', '4'],
    ];
    expect(table(['NAME', 'N'], rows)).to.equal('NAME   N\n日本   1\ne\u0301      2\n● x    3\n😀     4');
  });

  it('gives a row as many lines as its highest cell', () => {
    expect(
      table(
        ['A', 'B'],
        [
          ['x\ny', '1'],
          ['z', '2\n3'],
        ],
      ),
    ).to.equal('A   B\nx   1\ny\nz   2\n    3');
  });

  it('of 10 000 rows takes no more than its share of time', () => {
    const rows = Array.from({ length: 10_000 }, (_, at) => [
      `layer-${at}`,
      'default',
      'committed',
      '-',
      'ok',
    ]);
    const { user } = process.cpuUsage();
    expect(table(['A', 'B', 'C', 'D', 'E'], rows).split('\n')).to.have.length(10_001);
    expect(process.cpuUsage().user - user).to.be.below(1_000_000);
  });

  it('shows control characters instead of sending them to the terminal', () => {
    expect(table(['A'], [['\x1b[2Jx\u009b\t']])).to.equal('A\n\\x1b[2Jx\\x9b\\x09');
  });
});

describe('a time', () => {
  it('is relative, in its largest unit', () => {
    expect(ago('2026-01-02T06:04:04Z', now)).to.equal('1 second ago');
    expect(ago('2026-01-02T06:02:05Z', now)).to.equal('2 minutes ago');
    expect(ago('2026-01-02T03:04:05Z', now)).to.equal('3 hours ago');
    expect(ago('2025-12-30T06:04:04Z', now)).to.equal('3 days ago');
    expect(ago('2026-01-02T06:05:05Z', now)).to.equal('in 1 minute');
  });

  it('is shown as it is when it is none', () => {
    expect(ago('never', now)).to.equal('never');
  });
});

describe('a size', () => {
  it('is for people, and a dash when it is unknown', () => {
    expect(size(1536)).to.equal('1.5 KiB');
    expect(size(0)).to.equal('0 B');
    expect(size(null)).to.equal('-');
    expect(size(undefined)).to.equal('-');
  });
});

describe('a progress bar', () => {
  it('shows the share done', () => {
    expect(progressBar({ doneBytes: 512, totalBytes: 1024 })).to.equal(
      '[##########----------] 50%, 512 B of 1.0 KiB',
    );
  });

  it('stays within its ends when the total was counted wrong', () => {
    expect(progressBar({ doneBytes: 0, totalBytes: 0 })).to.match(/^\[-{20}\] 0%/);
    expect(progressBar({ doneBytes: 9, totalBytes: 3 })).to.match(/^\[#{20}\] 100%/);
  });
});

describe('the list of volumes', () => {
  it('shows state, usage and consumers', () => {
    const consumer = {
      mountId: 'm',
      count: 1,
      confirmed: false,
      since: '2026-01-02T03:04:05Z',
    };
    const text = volumesText(
      [
        volumeView(),
        volumeView({
          name: 'big',
          phase: 'Creating',
          progress: { doneBytes: 1, totalBytes: 3 },
          protected: true,
          limitBytes: 10_737_418_240,
          usage: { bytes: 2048, inodes: 2, measuredAt: '2026-01-02T03:04:05Z' },
          consumers: [consumer],
          containers: ['web'],
        }),
      ],
      now,
    );
    expect(cells(text)).to.deep.equal([
      ['NAME', 'DRIVER', 'POOL', 'STATE', 'HEALTH', 'USED', 'LIMIT', 'CONSUMERS', 'CREATED'],
      ['db', 'varve', 'default', 'Ready', 'ok', '-', '-', '0', '3 hours ago'],
      ...[
        [
          'big',
          'varve',
          'default',
          'Creating 33%, protected',
          'ok',
          '2.0 KiB',
          '10.0 GiB',
          '1 (web, 1 unconfirmed)',
          '3 hours ago',
        ],
      ],
    ]);
  });
});

describe('the usage of volumes', () => {
  it('ends with a sum when there are several', () => {
    const db = { name: 'db', bytes: 1024, inodes: 3 };
    expect(cells(usageText([db]))).to.have.length(2);
    expect(cells(usageText([db, { name: 'new' }])).slice(1)).to.deep.equal([
      ['db', '1.0 KiB', '3'],
      ['new', '-', '-'],
      ['total', '1.0 KiB', '3'],
    ]);
  });
});

describe('the status', () => {
  it('says what there is and what needs a person', () => {
    const text = statusText(
      {
        version: '1.2.3',
        pid: 42,
        startedAt: '2026-01-02T03:04:05Z',
        root: '/data',
        managed: false,
        drivers: [{ name: 'varve', addresses: ['/s', '127.0.0.1:7000'], pool: 'default' }],
        snapshotters: [{ name: 'varve', addresses: ['unix:///c'], layerStore: 'containerd' }],
        engine: { address: 'unix:///d', reachable: false, version: null, error: 'connection refused' },
        pools: [
          {
            ...{ name: 'default', driver: 'directory', root: '/data/pools/default', health: 'ok' },
            ...{ capabilities: { quota: 'none' }, freeBytes: 1024, totalBytes: null, volumes: 3 },
          },
        ],
        volumes: { total: 3, mounted: 2, unhealthy: 1 },
        warnings: ['pool nas is not mounted; mount it'],
      },
      now,
    );
    expect(text).to.include('Process   42, started 3 hours ago');
    expect(text).to.include('Engine    unix:///d, not reachable: connection refused');
    expect(text).to.include('Volumes   3, 2 mounted, 1 unhealthy');
    expect(text).to.match(/^varve +default +\/s\n +127\.0\.0\.1:7000$/m);
    expect(text).to.match(/^varve +containerd +unix:\/\/\/c$/m);
    expect(text).to.match(/^default +directory +\/data\/pools\/default +ok +none +1\.0 KiB +- +3$/m);
    expect(text).to.include('Warning: pool nas is not mounted; mount it');
  });
});

describe('findings', () => {
  it('of the doctor come with their fix', () => {
    const text = doctorText([
      { check: 'engine', verdict: 'ok', message: 'Docker 20.10', fix: null },
      { check: 'root', verdict: 'failure', message: 'is full', fix: 'make room' },
    ]);
    expect(text)
      .to.match(/^ok +engine +Docker 20\.10$/m)
      .and.to.match(/^failure +root +is full\n +fix: make room$/m);
  });

  it('of a check say who repairs them', () => {
    const finding = {
      problem: 'leftover-mount',
      subject: '/m',
      message: 'is mounted',
      repaired: false,
    } as const;
    expect(findingsText([])).to.include('agree');
    expect(findingsText([{ ...finding, repair: null }])).to.match(/by hand$/);
    expect(findingsText([{ ...finding, repair: 'unmount it' }])).to.match(/--repair: unmount it$/);
    expect(findingsText([{ ...finding, repair: 'unmount it', repaired: true }])).to.match(
      /done: unmount it$/,
    );
  });

  it('of a rebuild name what is damaged', () => {
    expect(rebuildText({ restored: 2, kept: 1, damaged: [] })).to.equal('2 restored, 1 kept, 0 damaged');
    const damaged = [{ subject: '7', message: 'volume.json is empty' }];
    expect(rebuildText({ restored: 0, kept: 0, damaged })).to.match(/^7 +volume\.json is empty$/m);
  });
});

describe('the configuration', () => {
  it('is shown with unit, source and meaning', () => {
    const text = configText([
      { key: 'intervals.usageSeconds', value: 300, source: 'default', unit: 's', doc: 'Time' },
      {
        key: 'drivers.x.options',
        value: { uid: '1', mode: '0700' },
        source: '/f:3',
        unit: null,
        doc: 'Options',
      },
    ]);
    expect(text).to.match(/^intervals\.usageSeconds +300 +s +default +Time$/m);
    expect(text).to.match(/^drivers\.x\.options +uid=1 +\/f:3 +Options\n +mode=0700$/m);
  });
});

describe('-o', () => {
  it('takes everything after the first = as the value', () => {
    expect(addOption('a=b=c', {})).to.deep.equal({ a: 'b=c' });
    expect(addOption('a=', { b: '1' })).to.deep.equal({ b: '1', a: '' });
  });

  it('may have no value, as in -o help', () => {
    expect(addOption('help', {})).to.deep.equal({ help: '' });
  });

  it('is refused the second time, and takes any name', () => {
    expect(() => addOption('a=2', { a: '1' })).to.throw(InvalidArgument, 'given twice');
    expect(Object.entries(addOption('__proto__=x', {}))).to.deep.equal([['__proto__', 'x']]);
  });
});
