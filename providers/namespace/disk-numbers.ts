import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** gnu_dev_major(3), gnu_dev_minor(3) of a number that fits 32 bits. */
export const deviceNumber = (dev: number): DeviceNumber => ({
  major: (dev >>> 8) & 0xfff,
  minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00),
});

/**
 * The disks that folders lie on, each once: the kernel limits whole disks and no partitions. None for a folder on what has no
 * one disk, such as tmpfs or btrfs. (sysfs: Documentation/ABI/stable/sysfs-dev)
 */
export function disksOf(folders: readonly string[], sysfs = '/sys'): readonly DeviceNumber[] {
  const disks = folders.flatMap((folder) => {
    const { major, minor } = deviceNumber(statSync(folder).dev);
    const link = join(sysfs, 'dev/block', `${major}:${minor}`);
    if (!existsSync(link)) return [];
    const node = realpathSync(link);
    const disk = existsSync(join(node, 'partition')) ? dirname(node) : node;
    return readFileSync(join(disk, 'dev'), 'utf8').trim();
  });
  return [...new Set(disks)].map((text) => {
    const [major = 0, minor = 0] = text.split(':').map(Number);
    return { major, minor };
  });
}
