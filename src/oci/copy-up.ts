import { spawnSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { O } from '../sys/flags.ts';
import { readMountOptions } from './mount-options.ts';
import { openBelow } from './open.ts';
import type { OciConfig } from './spec.ts';

/**
 * The option `tmpcopyup`: a new tmpfs begins with what the image has in that place. Both folders are held by descriptors
 * that no link of the image leads elsewhere; cp(1) follows none of what it copies.
 * @param pid of the process that has the mounts, and stands in the root file system
 */
export function copyUp(config: OciConfig, rootfs: string, pid: number): void {
  config.mounts?.forEach((mount, index) => {
    if (!readMountOptions(mount.options ?? []).copyUp) return;
    const at = `mounts[${index}].options: tmpcopyup`;
    const target = openBelow(`/proc/${pid}/cwd`, mount.destination, O.RDONLY | O.DIRECTORY);
    let source: number;
    try {
      source = openBelow(rootfs, mount.destination, O.RDONLY | O.DIRECTORY);
    } catch {
      closeSync(target);
      return; // the image has nothing there
    }
    try {
      const { status, error, stderr } = spawnSync('cp', ['-a', '/proc/self/fd/3/.', '/proc/self/fd/4/'], {
        stdio: ['ignore', 'ignore', 'pipe', source, target],
      });
      if (error !== undefined || status !== 0) {
        throw new TsvError('TSV_CONTAINER_START', `${at}: ${mount.destination} could not be copied`, {
          details: [error?.message ?? String(stderr).trim()],
        });
      }
    } finally {
      closeSync(source);
      closeSync(target);
    }
  });
}
