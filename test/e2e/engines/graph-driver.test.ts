import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { docker, inContainer, refused, startContainer } from '../../support/containers.ts';
import type { TestDaemon } from '../../support/daemon.ts';
import { onFirstEngine, type TestEngine } from '../../support/engine.ts';
import { layersOf, mountedLayers, withLayersInVarve } from '../../support/graph-engine.ts';
import type { Scratch } from '../../support/host-scratch.ts';
import { makeImageArchive } from '../../support/image-archive.ts';
import { change, directory, file, hardLink, randomBytes } from '../../support/layer-tree.ts';

withLayersInVarve('an engine that keeps its images and containers with varve', ['--live-restore'], parts => {
  let engine: TestEngine;
  let daemon: TestDaemon;
  let scratch: Scratch;

  before(() => {
    ({ engine, daemon, scratch } = parts());
  });

  afterEach(async () => {
    const left = await docker(engine, 'ps', '--all', '--quiet');
    if (left !== '') await docker(engine, 'rm', '--force', ...left.split('\n'));
  });

  const run = (script: string, image = 'busybox', ...args: string[]) =>
    inContainer(engine, args, script, image);

  it('says so', async () => {
    expect(await docker(engine, 'info', '--format', '{{.Driver}}')).to.equal(daemon.driver);
    expect(await docker(engine, 'info')).to.match(/Layer Store: docker\n *Layer Driver: overlay/);
  });

  it('S1 S2 S3 stacks layers, keeps those that images share once, and gives a container one of its own', async () => {
    const before = (await layersOf(daemon)).length;
    const build = async (name: string, command: string) => {
      const id = await startContainer(engine, ['--name', 'maker'], 'exec sleep 1000');
      await docker(engine, 'exec', id, 'sh', '-c', command);
      await docker(engine, 'commit', id, name);
      await docker(engine, 'rm', '--force', id);
    };
    await build('one', 'echo one > /which; mkdir /data; echo below > /data/file');
    await build('two', 'echo two > /which');
    // Two layers more than busybox had: that is shared, and the containers took theirs along.
    expect((await layersOf(daemon)).length).to.equal(before + 2);
    const id = await docker(
      engine,
      'run',
      '-d',
      '--network',
      'host',
      'one',
      'sh',
      '-c',
      'rm /which; echo own > /data/file; exec sleep 1000',
    );
    await until(
      'the container to write',
      10_000,
      async () => (await docker(engine, 'exec', id, 'cat', '/data/file')) === 'own',
    );
    expect(await run('cat /which /data/file', 'one')).to.equal('one\nbelow');
    expect((await docker(engine, 'diff', id)).split('\n')).to.have.members([
      'C /data',
      'C /data/file',
      'D /which',
    ]);
    const { stdout } = await daemon.varve('layer', 'tree', '--store', 'docker');
    const [bottom, first, second] = stdout.split('\n').slice(2);
    expect(bottom).to.match(/committed .* by 2/);
    for (const branch of [first, second]) expect(branch).to.match(/^[|`]/);
    expect(stdout).to.match(/ o \w+ +active/);
    await docker(engine, 'rm', '--force', id);
    await docker(engine, 'rmi', 'one', 'two');
    expect((await layersOf(daemon)).length).to.equal(before);
  });

  it('S4 saves an image with the very layers that were loaded, whoever wrote them, also a built one', async () => {
    const layers = [];
    for (const [index, format] of ['gnu', 'pax', 'ustar'].entries()) {
      const path = mkdtempSync(join(scratch.path, 'layer-'));
      const long = 'long-'.repeat(18);
      change(path, [
        ...[
          directory(`/${long}${index}`),
          file(`/${long}${index}/file`, randomBytes(200_000, index), 0o4755),
        ],
        ...[file(`/empty${index}`, ''), hardLink(`/empty${index}`, `/link${index}`)],
      ]);
      await must('tar', [
        '--create',
        `--format=${format}`,
        '--sort=none',
        `--file=${path}.tar`,
        `--directory=${path}`,
        '.',
      ]);
      layers.push(`${path}.tar`);
    }
    const archive = await makeImageArchive(join(scratch.path, 'image.tar'), 'foreign:latest', layers, {
      gzip: true,
    });
    await docker(engine, 'load', '--input', archive.path);
    expect(await savedDiffIds('foreign')).to.deep.equal(archive.diffIds);
    await docker(engine, 'rmi', 'foreign');
    await docker(engine, 'load', '--input', join(scratch.path, 'saved-foreign.tar'));
    await docker(engine, 'run', '--name', 'stopped', '--network', 'host', 'foreign', '/missing').catch(
      () => undefined,
    );
    expect(await savedDiffIds('foreign')).to.deep.equal(archive.diffIds);
    await docker(engine, 'rm', 'stopped');
    await docker(engine, 'rmi', 'foreign');
  });

  /** Saves an image. @returns the digests of the layers in the archive, which are those that the image names */
  async function savedDiffIds(image: string): Promise<readonly string[]> {
    const path = join(scratch.path, `saved-${image.replace(':', '-')}.tar`);
    await docker(engine, 'save', '--output', path, image);
    const unpacked = mkdtempSync(join(scratch.path, 'saved-'));
    await must('tar', ['--extract', `--file=${path}`, `--directory=${unpacked}`]);
    const [{ Layers }] = JSON.parse(readFileSync(join(unpacked, 'manifest.json'), 'utf8')) as [
      { Layers: string[] },
    ];
    const digests = Layers.map(
      layer =>
        `sha256:${createHash('sha256')
          .update(readFileSync(join(unpacked, layer)))
          .digest('hex')}`,
    );
    const named = await docker(engine, 'image', 'inspect', '--format', '{{json .RootFS.Layers}}', image);
    expect(digests).to.deep.equal(JSON.parse(named));
    return digests;
  }

  const builds = (buildkit: '0' | '1') => {
    it(`builds images of several stages and many layers, with everything that files have: DOCKER_BUILDKIT=${buildkit}`, async () => {
      const context = mkdtempSync(join(scratch.path, 'context-'));
      const many = Array.from(
        { length: buildkit === '1' ? 30 : 6 },
        (_, index) => `COPY file /many/${index}`,
      );
      writeFileSync(join(context, 'file'), 'text');
      writeFileSync(
        join(context, 'Dockerfile'),
        [
          'FROM busybox AS first',
          'RUN echo made > /made && ln /made /linked && mkdir -p /gone/deep /kept && echo x > /gone/deep/x && chmod 4750 /made',
          'RUN rm -r /gone && mkdir /gone && echo new > /gone/new && chown 7:8 /kept',
          'FROM busybox',
          'COPY --from=first /made /linked /kept /copied/',
          ...many,
          'RUN rm /many/3 && rm -r /many/4 && mv /copied /moved',
          'RUN echo last >> /moved/made',
        ].join('\n'),
      );
      const image = `built-${buildkit}`;
      const env = { ...engine.environment, DOCKER_BUILDKIT: buildkit };
      const build = (...args: string[]) =>
        must('docker', ['build', '--network', 'none', ...args], { env, timeoutMs: 60_000 });
      await build('--tag', image, '--target', 'first', context);
      expect(await run('cat /linked; ls /gone; stat -c "%a %h" /made; stat -c %u:%g /kept', image)).to.equal(
        'made\nnew\n4750 2\n7:8',
      );
      await build('--tag', image, context);
      expect(
        await run('cat /moved/made; ls /many | wc -l; ls -d /many/[34] /copied 2>/dev/null; true', image),
      ).to.equal(`made\nlast\n${many.length - 2}`);
      const saved = await savedDiffIds(image);
      // Those of busybox, of COPY --from, of each COPY, and of two commands.
      expect(saved).to.have.length(many.length + 4);
      await docker(engine, 'rmi', image);
      await docker(engine, 'load', '--input', join(scratch.path, `saved-${image}.tar`));
      expect(await run('cat /moved/made', image)).to.equal('made\nlast');
      expect(await savedDiffIds(image)).to.deep.equal(saved);
      await docker(engine, 'rmi', image);
      await docker(engine, 'builder', 'prune', '--force', '--all');
      await docker(engine, 'image', 'prune', '--force');
    });
  };
  builds('0');
  // Debian's later clients have no BuildKit of their own.
  onFirstEngine(() => builds('1'));

  it('commits, compares, exports and copies a container, and counts what it takes', async () => {
    const script =
      'echo text > /new; dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; touch /done; exec sleep 1000';
    const id = await startContainer(engine, [], script);
    await until('the container to have written', 10_000, async () =>
      (await docker(engine, 'diff', id)).includes('/done'),
    );
    const from = join(scratch.path, 'from');
    writeFileSync(join(scratch.path, 'into'), 'copied');
    await docker(engine, 'cp', `${id}:/new`, from);
    await docker(engine, 'cp', join(scratch.path, 'into'), `${id}:/into`);
    expect(readFileSync(from, 'utf8')).to.equal('text\n');
    const changes = ['A /big', 'A /done', 'A /into', 'A /new'];
    expect((await docker(engine, 'diff', id)).split('\n')).to.have.members(changes);
    expect(await docker(engine, 'ps', '--size', '--filter', `id=${id}`, '--format', '{{.Size}}')).to.match(
      /^3\.15MB /,
    );
    expect(await docker(engine, 'system', 'df')).to.match(/Containers +1 +1 +3\.\d+MB/);
    await docker(engine, 'commit', id, 'committed');
    expect(await run('cat /new /into; stat -c %s /big', 'committed')).to.equal(`text\ncopied${3 << 20}`);
    // Docker 26 itself forgets to let go of a container that it exported (moby, daemon/images: PerformWithBaseFS).
    if (engine.major === 20) {
      const exported = join(scratch.path, 'exported.tar');
      await docker(engine, 'export', '--output', exported, id);
      const { stdout } = await must('tar', ['--list', `--file=${exported}`]);
      expect(stdout.split('\n')).to.include.members(['big', 'into', 'new']);
    }
    expect((await savedDiffIds('committed')).length).to.equal(2);
    const { Layer, MergedDir } = JSON.parse(
      await docker(engine, 'inspect', '--format', '{{json .GraphDriver.Data}}', id),
    ) as Record<string, string>;
    expect((await layersOf(daemon)).map(({ name }) => name)).to.include(Layer);
    expect(readFileSync(join(String(MergedDir), 'into'), 'utf8')).to.equal('copied');
    await docker(engine, 'rm', '--force', id);
    await docker(engine, 'rmi', 'committed');
  });

  it('enforces --storage-opt size, and refuses any other option', async () => {
    const full = await run(
      'dd if=/dev/zero of=/big bs=1M count=80 2>&1; rm /big; dd if=/dev/zero of=/small bs=1M count=20 2>&1 && echo ok',
      'busybox',
      '--storage-opt',
      'size=50M',
    );
    expect(full).to.match(/No space left on device|quota exceeded/i);
    expect(full).to.match(/ok$/);
    const unknown = await refused(engine, 'run', '--rm', '--storage-opt', 'fast=yes', 'busybox', 'true');
    expect(unknown).to.contain('no storage option "fast"');
    expect(await docker(engine, 'ps', '--all', '--quiet')).to.equal('');
  });

  it('S4 containers live on while the engine restarts, crashes, and varve with it', async () => {
    const id = await startContainer(
      engine,
      [],
      'while true; do cat /proc/uptime > /next; mv /next /now; sleep 0.1; done',
    );
    const lives = async () => {
      const before = await docker(engine, 'exec', id, 'cat', '/now');
      await until(
        'the container to go on',
        10_000,
        async () => (await docker(engine, 'exec', id, 'cat', '/now')) !== before,
      );
      await docker(engine, 'cp', `${id}:/now`, join(scratch.path, 'now'));
      expect(statSync(join(scratch.path, 'now')).size).to.be.greaterThan(0);
      expect(mountedLayers(daemon)).to.have.length(1);
    };
    await lives();
    await engine.restart();
    await lives();
    await engine.kill9();
    await engine.restart();
    await lives();
    await daemon.kill9();
    await daemon.start();
    await lives();
    await engine.kill9();
    await daemon.kill9();
    await daemon.start();
    await engine.restart();
    await lives();
    await docker(engine, 'restart', '--time', '0', id);
    await lives();
    await docker(engine, 'rm', '--force', id);
    expect(mountedLayers(daemon)).to.deep.equal([]);
  });

  it('S1 leaves nothing when everything is removed', async () => {
    await docker(engine, 'system', 'prune', '--force', '--all');
    expect(await layersOf(daemon)).to.deep.equal([]);
    const namesIn = (path: string) => readdirSync(join(daemon.root, 'layers/docker', path));
    await until('the layers to be deleted', 10_000, () =>
      [...namesIn('.'), ...namesIn('trash')].every(name => !/^[0-9]|^new/.test(name)),
    );
    expect(namesIn('trash')).to.deep.equal([]);
  });
});

withLayersInVarve("moby's external graph driver case (integration/plugin/graphdriver)", [], parts => {
  it('TestExternalGraphDriver: each call comes as often as moby says', async () => {
    const { engine, daemon } = parts();
    const id = await docker(
      engine,
      'run',
      '--detach',
      '--network',
      'host',
      'busybox',
      'sh',
      '-c',
      'echo hello > /hello',
    );
    await engine.restart();
    const name = await docker(engine, 'inspect', '--format', '{{.GraphDriver.Name}}', id);
    expect(name).to.equal(daemon.driver);
    expect(await docker(engine, 'diff', id)).to.equal('A /hello');
    await docker(engine, 'rm', '--force', id);
    await docker(engine, 'info');
    await engine.stop();
    const calls = daemon.calls();
    expect(calls).to.include({ Activate: 2, Init: 2, Changes: 1, GetMetadata: 1, Cleanup: 2 });
    for (const method of ['CreateReadWrite', 'Remove', 'Get', 'Put', 'ApplyDiff']) {
      expect(calls[method], method).to.be.at.least(1);
    }
    expect(calls).to.not.have.any.keys('Diff', 'DiffSize');
  });
});
