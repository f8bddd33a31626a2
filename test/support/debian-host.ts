import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { makeDebianTree } from '../../scripts/lib/debian-tree.ts';
import { type Result, run } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import { errorCode } from '../../src/errors/from-errno.ts';

/** Lays out what a container has, then becomes the program: in namespaces of its own, with TREE as its root. */
const enter = `set -e
tree=$1; shift
mount --make-rprivate /
mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=755 tmpfs run
if [ -d /sys/fs/cgroup/systemd ]; then
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
else
  mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mkdir -p host
pivot_root . host
umount --lazy /host
mount --make-rshared /
exec env -i container=varve PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"`;

const namespaces = ['--mount', '--pid', '--uts', '--ipc', '--net', '--cgroup'];
const hierarchies = ['systemd', 'unified'].filter(name => existsSync(`/sys/fs/cgroup/${name}`));

/** A small Debian with namespaces of its own, whose first process is a program of it: its systemd, or another. */
export class DebianHost {
  readonly tree: string;
  readonly #directory: string;
  #outer: ChildProcess | undefined;
  #init = 0;

  private constructor(directory: string) {
    this.#directory = directory;
    this.tree = join(directory, 'tree');
  }

  static async make(packages: readonly string[]): Promise<DebianHost> {
    const host = new DebianHost(await mkdtemp(join(tmpdir(), 'varve-debian-')));
    try {
      await makeDebianTree(host.tree, packages);
    } catch (error) {
      await host.dispose();
      throw error;
    }
    return host;
  }

  /** Starts its first process, which ends with ours. */
  async start(program: string, ...args: readonly string[]): Promise<void> {
    for (const group of this.#cgroups()) mkdirSync(group, { recursive: true });
    const joining = this.#cgroups().map(group => `echo $$ > ${group}/cgroup.procs`);
    const script = [...joining, 'exec unshare "$@"'].join('\n');
    const words = [
      ...namespaces,
      '--fork',
      '--kill-child',
      'sh',
      '-c',
      enter,
      'sh',
      this.tree,
      program,
      ...args,
    ];
    const outer = spawn('setpriv', ['--pdeathsig', 'KILL', 'sh', '-ec', script, 'sh', ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [outer.stdout, outer.stderr]) {
      stream.on('data', (text: Buffer) => {
        said += text.toString();
      });
    }
    this.#outer = outer;
    this.#init = await until('the first process of the host', 10_000, () => {
      if (hasEnded(outer)) throw new Error(`the host did not start: ${said}`);
      return firstProcess(outer.pid, program, this.tree);
    });
  }

  /** Starts its systemd, and waits until everything that it starts has started. */
  async boot(): Promise<void> {
    await this.start('/lib/systemd/systemd');
    await until('systemd to have started everything', 30_000, async () => {
      const { stdout } = await this.run('systemctl', 'is-system-running');
      return ['running', 'degraded'].includes(stdout.trim());
    });
  }

  /** Where a path of the host is for us, while it runs. */
  path(path: string): string {
    return join(`/proc/${this.#init}/root`, path);
  }

  /** Runs a program on the host. */
  run(...words: readonly string[]): Promise<Result> {
    const into = ['--mount', '--pid', '--uts', '--ipc', '--net', '--cgroup', '--root', '--wd'];
    const environment = ['env', '-i', 'LC_ALL=C', 'HOME=/root', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin'];
    return run('nsenter', ['--target', String(this.#init), ...into, ...environment, ...words], {
      timeoutMs: 120_000,
    });
  }

  /** Runs a program of this machine, with its files, as a process that those of the host can see. */
  runAmong(...words: readonly string[]): Promise<Result> {
    return run('nsenter', ['--target', String(this.#init), '--pid', ...words], { timeoutMs: 60_000 });
  }

  /** Like {@link run}. @returns standard output @throws Error when the exit code is not 0 */
  async must(...words: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...words);
    if (exitCode !== 0) throw new Error(`${words.join(' ')} ended with ${exitCode}: ${stdout}${stderr}`);
    return stdout.trim();
  }

  /** Runs a program in the directory tree alone, as in an image that is being built. @throws Error */
  async chroot(...words: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await run('chroot', [this.tree, ...words], { timeoutMs: 120_000 });
    if (exitCode !== 0) throw new Error(`${words.join(' ')} ended with ${exitCode}: ${stdout}${stderr}`);
    return stdout.trim();
  }

  write(path: string, text: string): void {
    const file = this.path(path);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, text);
  }

  /** Ends every process of the host; its mounts go with them. */
  async stop(): Promise<void> {
    const outer = this.#outer;
    if (outer === undefined) return;
    outer.kill('SIGKILL');
    await until('the host to end', 10_000, () => hasEnded(outer));
    for (const group of this.#cgroups()) {
      await until(`${group} to be empty`, 10_000, () => removeGroups(group));
    }
    this.#outer = undefined;
  }

  async dispose(): Promise<void> {
    await this.stop();
    await run('chattr', ['-f', '-R', '-i', join(this.tree, 'var/lib/varve')]);
    await rm(this.#directory, { recursive: true, force: true });
  }

  #cgroups(): readonly string[] {
    const name = basename(this.#directory);
    return hierarchies.length === 0
      ? [`/sys/fs/cgroup/${name}`]
      : hierarchies.map(hierarchy => join('/sys/fs/cgroup', hierarchy, name));
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

/**
 * The child of `outer` that has become the program with the tree as its root. Before, it is called `unshare`, `sh` and
 * `env`, and its root is ours: what is run in it then would run on this machine.
 */
function firstProcess(outer: number | undefined, program: string, tree: string): number | undefined {
  try {
    const pid = readFileSync(`/proc/${outer}/task/${outer}/children`, 'utf8').split(' ')[0];
    if (!pid) return undefined;
    const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    const [root, wanted] = [statSync(`/proc/${pid}/root/`), statSync(tree)];
    const isInside = root.dev === wanted.dev && root.ino === wanted.ino;
    // The kernel keeps 15 characters of a name (proc(5), `comm`).
    return isInside && name === basename(program).slice(0, 15) ? Number(pid) : undefined;
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(errorCode(error) ?? '')) return undefined;
    throw error;
  }
}

/** Removes control groups from the leaves up. @returns whether all are gone: those of dying processes stay a moment */
function removeGroups(group: string): boolean {
  if (!existsSync(group)) return true;
  const children = readdirSync(group, { withFileTypes: true }).filter(entry => entry.isDirectory());
  try {
    for (const { name } of children) removeGroups(join(group, name));
    rmdirSync(group);
  } catch {
    return false;
  }
  return !existsSync(group);
}
