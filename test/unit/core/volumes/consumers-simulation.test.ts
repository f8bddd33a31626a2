import fc from 'fast-check';
import { isLong } from '../../../support/long.ts';
import { type EngineKind, type Event, Simulation } from '../../../support/simulation.ts';

const runs = isLong ? 20_000 : 2_000;

const container = fc.integer({ min: 0, max: 3 });

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant('start'), c: container, firstUse: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('run'), c: container }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('stop'), c: container }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('cp-begin'), c: container }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('cp-end'), c: container }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constantFrom('dockerd-kill', 'dockerd-stop') }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('dockerd-start') }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('sabotage'), halfSteps: fc.nat(24) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constantFrom('daemon-restart', 'activate') }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('tick'), engine: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('pass'), ms: fc.constantFrom(1_000, 60_000, 180_000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('fail'),
      operation: fc.constantFrom('users', 'mount', 'unmount'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('remove') }) },
) as fc.Arbitrary<Event>;

const kind: fc.Arbitrary<EngineKind> = fc.record({ liveRestore: fc.boolean(), restoresCounts: fc.boolean() });

async function live(engine: EngineKind, events: readonly Event[]): Promise<Simulation> {
  const simulation = await Simulation.begin(engine);
  for (const each of events) await simulation.happen(each);
  return simulation;
}

describe('consumers, whatever engines and daemons do', () => {
  it('S13 never unmounts or removes what a container uses, and never leaks a consumer for ever', async function () {
    this.timeout(isLong ? 600_000 : 60_000);
    const end = fc.constantFrom('stopped' as const, 'died' as const);
    const word = fc.constantFrom('activate' as const, 'engine' as const);
    await fc.assert(
      fc.asyncProperty(
        kind,
        fc.array(event, { maxLength: 40, size: 'max' }),
        end,
        word,
        async (engine, events, how, said) => {
          const simulation = await live(engine, events);
          await simulation.finish(how, said);
        },
      ),
      { numRuns: runs },
    );
  });

  const liveRestore: EngineKind = { liveRestore: true, restoresCounts: false };
  const modern: EngineKind = { liveRestore: true, restoresCounts: true };
  const plain: EngineKind = { liveRestore: false, restoresCounts: false };
  const c = 0;
  const running: readonly Event[] = [
    { type: 'start', c },
    { type: 'run', c },
  ];
  const copyWhileRestarted: readonly Event[] = [
    { type: 'stop', c },
    { type: 'start', c },
    { type: 'cp-end', c },
    { type: 'run', c },
  ];

  const stories: Readonly<Record<string, readonly [EngineKind, readonly Event[]]>> = {
    'S13 docker cp on a running container mounts and unmounts its id once more': [
      plain,
      [...running, { type: 'cp-begin', c }, { type: 'cp-end', c }],
    ],
    'S13 docker cp goes on while its container stops': [
      plain,
      [...running, { type: 'cp-begin', c }, { type: 'stop', c }, { type: 'cp-end', c }],
    ],
    'S11 the first-use copy mounts, unmounts, and mounts under another id': [
      plain,
      [
        { type: 'start', c, firstUse: true },
        { type: 'run', c },
      ],
    ],
    'S13 dockerd dies with a container running; its id is mounted again and unmounted once': [
      plain,
      [...running, { type: 'dockerd-kill' }, { type: 'dockerd-start' }, ...running, { type: 'stop', c }],
    ],
    'S13 live-restore on 20.10: after a docker cp the last Unmount never comes': [
      liveRestore,
      [
        ...running,
        { type: 'dockerd-stop' },
        { type: 'dockerd-start' },
        { type: 'cp-begin', c },
        { type: 'cp-end', c },
        { type: 'stop', c },
      ],
    ],
    'S13 live-restore with restored counts: the last Unmount comes': [
      modern,
      [...running, { type: 'dockerd-stop' }, { type: 'dockerd-start' }, { type: 'stop', c }],
    ],
    'a count that a restart of the daemon made doubtful does not drop below the truth': [
      plain,
      [...running, { type: 'cp-begin', c }, { type: 'daemon-restart' }, ...copyWhileRestarted],
    ],
    'an engine that says hello does not make another engine lose its mount': [
      plain,
      [...running, { type: 'cp-begin', c }, { type: 'activate' }, ...copyWhileRestarted],
    ],
    'a copy that lasts longer than the grace keeps a doubtful consumer': [
      plain,
      [
        ...running,
        { type: 'cp-begin', c },
        { type: 'daemon-restart' },
        { type: 'pass', ms: 180_000 },
        { type: 'stop', c },
        { type: 'tick', engine: true },
        { type: 'start', c },
        { type: 'cp-end', c },
        { type: 'run', c },
      ],
    ],
    'a container that starts while another one stops keeps the volume': [
      plain,
      [...running, { type: 'start', c: 1 }, { type: 'stop', c }, { type: 'tick', engine: true }],
    ],
    'a Mount that failed leaves nothing': [
      plain,
      [
        { type: 'fail', operation: 'mount' },
        { type: 'start', c },
      ],
    ],
    'while nobody can read the mount tables, everything stays': [
      plain,
      [
        ...running,
        { type: 'dockerd-kill' },
        { type: 'fail', operation: 'users' },
        { type: 'tick', engine: false },
      ],
    ],
    'podman and dockerd share a volume': [
      plain,
      [...running, { type: 'start', c: 3 }, { type: 'stop', c }, { type: 'run', c: 3 }, { type: 'remove' }],
    ],
  };
  for (const [title, [engine, events]] of Object.entries(stories)) {
    for (const how of ['stopped', 'died'] as const) {
      for (const word of ['activate', 'engine'] as const) {
        it(`${title} (containers ${how}, then the ${word === 'engine' ? 'word of the engine' : 'next engine'})`, async () => {
          await (await live(engine, events)).finish(how, word);
        });
      }
    }
  }

  it('Mount and Unmount can be cut off at every half step', async () => {
    for (let halfSteps = 0; halfSteps < 24; halfSteps += 1) {
      for (const cutOff of ['start', 'stop'] as const) {
        const story: Event[] = [
          { type: 'start', c: 1 },
          { type: 'run', c: 1 },
        ];
        if (cutOff === 'stop') story.push(...running);
        story.push({ type: 'sabotage', halfSteps }, { type: cutOff, c });
        await (await live(plain, story)).finish('stopped', 'activate');
      }
    }
  });
});
