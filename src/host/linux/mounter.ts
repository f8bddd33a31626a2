import type { BindSource, Mount, MountEntry, MountUser, OverlaySource } from '../../core/mount.ts';
import type { Mounter } from '../../core/ports.ts';
import { FailedPrecondition } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';
import { mountFuseOverlay } from './fuse-overlayfs.ts';
import { findMountUsers, isMountedFor } from './mount-users.ts';
import { parseMountinfo, readMountinfo } from './mountinfo.ts';
import { isOverlay, mountOverlay } from './overlay.ts';
import {
  type FileIdentity,
  identify,
  isReadonly,
  MNT_DETACH,
  MS_BIND,
  MS_RDONLY,
  MS_REMOUNT,
  mount as mountSystemCall,
  must,
  unmount as unmountSystemCall,
} from './system-calls.ts';

type Bind = BindSource & { readonly target: string };
type Overlay = OverlaySource & { readonly target: string };

/**
 * Mounts of this process's mount namespace. A new mount keeps the propagation that the kernel gives it, so
 * that it reaches an engine in another namespace.
 */
export class LinuxMounter implements Mounter {
  async mount(mount: Mount): Promise<void> {
    if (mount.type === 'bind') await this.#bind(mount);
    else if (mount.type === 'overlay') await this.#overlay(mount);
    else await mountFuseOverlay(mount, mount.target);
  }

  async #overlay(mount: Overlay): Promise<void> {
    const { target } = mount;
    if (!(await directoryAt(target)).mountRoot) return await mountOverlay(mount, target);
    const there = (await this.table()).findLast(entry => entry.mountPoint === target);
    if (there !== undefined && isOverlay(mount, there)) return;
    throw new FailedPrecondition(
      `cannot mount an overlay: something else is mounted on ${target}; unmount that first`,
    );
  }

  async #bind(mount: Bind): Promise<void> {
    const [source, target] = await Promise.all([directoryAt(mount.source), directoryAt(mount.target)]);
    // A mount root whose file is the source's can only be the source, mounted: no table need be read, which
    // takes milliseconds when there are thousands of mounts.
    if (!target.mountRoot) {
      must(
        await mountSystemCall(mount.source, mount.target, MS_BIND),
        `mount ${mount.source} on ${mount.target}`,
      );
    } else if (target.key !== source.key) {
      throw new FailedPrecondition(
        `cannot mount ${mount.source}: something else is mounted on ${mount.target}; unmount that first`,
      );
    }
    await this.#setReadonly(mount, target.mountRoot);
  }

  /** A bind takes its flags from the source's mount; only a remount changes them (mount(2), "Bind mount"). */
  async #setReadonly({ source, target, readonly }: Bind, stoodBefore: boolean): Promise<void> {
    if (readonly) {
      must(
        await mountSystemCall('none', target, MS_REMOUNT | MS_BIND | MS_RDONLY),
        `make ${target} read-only`,
      );
    } else if (stoodBefore && (await isReadonly(target)) && !(await isReadonly(source))) {
      throw new FailedPrecondition(`${source} is mounted read-only on ${target}; unmount that first`);
    }
  }

  async unmount(target: string, { detach = false }: { readonly detach?: boolean } = {}): Promise<void> {
    for (;;) {
      const { errno } = await unmountSystemCall(target, detach ? MNT_DETACH : 0);
      if (errno === EINVAL || errno === ENOENT) return;
      if (errno !== 0) throw fromErrno(errno, `unmount ${target}`);
    }
  }

  async table(): Promise<readonly MountEntry[]> {
    return parseMountinfo(readMountinfo('self'));
  }

  users(directory: string, except: string): Promise<readonly MountUser[]> {
    return findMountUsers(directory, except);
  }

  visibleTo(pid: number, target: string, { elsewhere }: { readonly elsewhere: boolean }): Promise<boolean> {
    return isMountedFor(pid, target, elsewhere);
  }
}

const ENOENT = 2;
const EINVAL = 22;

async function directoryAt(path: string): Promise<FileIdentity> {
  const answer = await identify(path);
  must(answer, `look at ${path}`);
  if (answer.file.directory) return answer.file;
  throw new FailedPrecondition(`${path} is not a directory; only directories are mounted`);
}
