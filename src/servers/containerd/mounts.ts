/** Mounts as containerd sends them (containerd.types.Mount): what mount(8) takes, and nothing that it would not. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { MountSource } from '../../core/mount.ts';
import type { Mount, MountSchema } from '../../wire/gen/containerd/types/mount_pb.ts';

/** What mount.fuse3(8) is asked for, by containerd as by us. */
const fuseOverlayfs = 'fuse3.fuse-overlayfs';

export function toMounts(sources: readonly MountSource[]): MessageInitShape<typeof MountSchema>[] {
  return sources.map(source => {
    if (source.type === 'bind') {
      const { readonly: isReadonly, source: directory } = source;
      return { type: 'bind', source: directory, options: ['rbind', isReadonly ? 'ro' : 'rw'] };
    }
    const type = source.type === 'overlay' ? 'overlay' : fuseOverlayfs;
    return { type, source: 'overlay', options: [...source.options] };
  });
}

/** @returns undefined when there is one among them that no layer store gives out */
export function toSources(mounts: readonly Mount[]): readonly MountSource[] | undefined {
  const sources = mounts.map(toSource).filter(source => source !== undefined);
  return sources.length === mounts.length ? sources : undefined;
}

function toSource({ type, source, target, options }: Mount): MountSource | undefined {
  if (target !== '') return undefined;
  if (type === 'bind') return { type, source, readonly: options.includes('ro') };
  if (type === 'overlay') return { type, options };
  return type === fuseOverlayfs ? { type: 'fuse-overlayfs', options } : undefined;
}
