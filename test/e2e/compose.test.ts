import { expect } from 'chai';
import { ComposeProject, composePrograms } from '../support/compose.ts';
import { TestHost } from '../support/host.ts';

describe('the compose file of the docs', function () {
  this.timeout(60_000);
  let host: TestHost;
  let project: ComposeProject;

  before(async function () {
    this.timeout(900_000);
    host = await TestHost.start();
  });
  after(() => host?.stop());

  for (const [version, program] of Object.entries(composePrograms))
    describe(`with compose ${version}`, () => {
      before(async function () {
        this.timeout(900_000);
        project = await ComposeProject.make(host, await program());
      });
      afterEach(async () => {
        await project.edit();
        await host.clear();
      });

      const data = '/var/lib/postgresql/data';
      const names = async () => (await host.volumes()).map(({ name }) => name);
      const up = async () => {
        await host.createVolume('backups');
        await project.must('up', '--detach');
      };

      it('S6 up makes its volumes with their options, and takes the external one as it is', async () => {
        await up();
        expect(await names()).to.deep.equal(['backups', 'db-archive', 'shop_data']);
        expect((await host.volume('shop_data')).options).to.deep.equal({
          uid: '999',
          gid: '999',
          mode: '0700',
        });
        expect(await project.sh(`stat -c "%u %g %a" ${data} /archive /backups`)).to.equal(
          '999 999 700\n999 0 755\n0 0 755',
        );
      });

      it('S5 down keeps the data, up finds them again, and so does a container that is made anew', async () => {
        await up();
        await project.sh(`echo kept > ${data}/x`);
        await project.must('down');
        expect(host.mounts()).to.deep.equal([]);
        await project.must('up', '--detach');
        expect(await project.sh(`cat ${data}/x`)).to.equal('kept');
        await project.must('up', '--detach', '--force-recreate');
        expect(await project.sh(`cat ${data}/x`)).to.equal('kept');
      });

      it('S5 down -v removes what is of the project, and neither a protected nor an external volume', async () => {
        await up();
        const protectedText = 'volume db-archive is protected; run `varve volume unprotect db-archive` first';
        expect(await project.refused('down', '--volumes')).to.include(protectedText);
        expect(await names()).to.deep.equal(['backups', 'db-archive']);
        await host.daemon.varve('volume', 'unprotect', 'db-archive');
        await host.docker('volume', 'rm', 'db-archive');
        expect(await names()).to.deep.equal(['backups']);
      });

      it('S13 an option that varve refuses stops up, in the words of varve', async () => {
        await host.createVolume('backups');
        await project.edit('mode: "0700"', 'mdoe: "0700"');
        expect(await project.refused('up', '--detach')).to.include(
          'unknown option "mdoe"; did you mean "mode"',
        );
        expect(await host.docker('ps', '--all', '--quiet')).to.equal('');
      });

      it('S13 a mode without its quotes is another number, and refused', async () => {
        await host.createVolume('backups');
        await project.edit('mode: "0700"', 'mode: 0700');
        expect(await project.refused('up', '--detach')).to.include('mode="448"');
      });

      it('S13 changed options leave the volume as it was, with its data', async () => {
        await up();
        await project.sh(`echo kept > ${data}/x`);
        await project.edit('mode: "0700"', 'mode: "0750"');
        const { exitCode, stderr } = await project.run('up', '--detach');
        // Compose v1 compares the options with those that the engine has, and v2 does not.
        expect(exitCode).to.equal(version === 'v1' ? 1 : 0);
        if (version === 'v1') expect(stderr).to.match(/uses a different "mode" driver_opt \(0700\)/);
        expect((await host.volume('shop_data')).options).to.include({ mode: '0700' });
        expect(await project.sh(`cat ${data}/x; stat -c %a ${data}`)).to.equal('kept\n700');
      });
    });
});
