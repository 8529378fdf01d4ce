import type { Machine } from './project.ts';

/**
 * Why a machine cannot have its disks; empty when it can. Pure.
 * @param rooted whether the host's root runs it: others have no loop devices, and may mount no ext4; docs/disks.md says why
 * fuse2fs does not stand in
 */
export const refuseDisks = ({ kind, disks }: Pick<Machine, 'kind' | 'disks'>, rooted: boolean): string[] =>
  rooted || kind === 'vm' || disks.length === 0
    ? []
    : [
        'disks of a container need root: the kernel mounts a disk for nobody else; a volume keeps data, too (`volumes`)',
      ];
