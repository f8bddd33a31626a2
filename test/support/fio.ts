import type { TestHost } from './host.ts';

/** What fio says of its one job at the end (fio(1), `--output-format=json`). */
export interface FioReport {
  /** The errno of the first read, write or verification that failed; 0 when none did. */
  readonly error: number;
  /** Calls that were made; those of `read` verified what had been written before. */
  readonly read: { readonly total_ios: number };
  readonly write: { readonly total_ios: number };
}

/** The program of this machine and its libraries: no image has them. */
const program = ['/usr', '/lib', '/lib64'].flatMap(path => ['-v', `${path}:${path}:ro`]);

/** Written at random places, with checksums, and read back and compared soon after; the first error ends it. */
const job = [
  ...['--name=fio', '--directory=/data', '--filename=fio', '--size=16M', '--rw=randwrite', '--bs=4k'],
  ...['--ioengine=psync', '--fsync=16', '--thinktime=500', '--time_based', '--runtime=600'],
  ...['--verify=crc32c', '--verify_backlog=256', '--verify_fatal=1', '--continue_on_error=none'],
  // The state would be written to the directory that fio was started in.
  '--verify_state_save=0',
];

/** Starts fio in a container of this name; its file is `fio` at the top of the volume. */
export async function startFio(host: TestHost, container: string, volume: string): Promise<void> {
  const options = ['--detach', '--name', container, ...program, '-v', `${volume}:/data`];
  const end = ['--trigger-file=/data/fio-end', '--trigger=true'];
  await host.run(options, '/usr/bin/fio', '--output-format=json', ...job, ...end);
}

/** Ends fio, as if its time were over, and takes what it says. @returns its report and exit code */
export async function endFio(
  host: TestHost,
  container: string,
): Promise<{ readonly exitCode: number; readonly report: FioReport }> {
  await host.sh(container, '> /data/fio-end');
  const exitCode = Number(await host.docker('wait', container));
  const said = await host.docker('logs', container);
  const { jobs } = JSON.parse(said.slice(said.indexOf('{'))) as { readonly jobs: readonly FioReport[] };
  if (jobs[0] === undefined) throw new Error(`fio reported no job:\n${said}`);
  return { exitCode, report: jobs[0] };
}
