import { closeSync, fchmodSync, fchownSync, fstatSync, openSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { O } from '../sys/flags.ts';
import { copyTree } from './copy-tree.ts';
import type { HeldMount } from './create.ts';
import { openBelow } from './open.ts';

/**
 * The option `tmpcopyup`: a new tmpfs begins with what the image has in that place. Both folders are held by descriptors: no
 * link of the image leads elsewhere, and nothing that is mounted below is written to.
 */
export async function copyUp(mounts: readonly HeldMount[], rootfs: string): Promise<void> {
  for (const { at, destination, path } of mounts) {
    let source: number;
    try {
      source = openBelow(rootfs, destination, O.RDONLY | O.DIRECTORY);
    } catch {
      continue; // the image has nothing there
    }
    const target = openSync(path, O.RDONLY | O.DIRECTORY);
    const before = fstatSync(target);
    try {
      const wrong = await copyTree(source, target);
      if (wrong !== undefined) {
        throw new TsvError('TSV_CONTAINER_START', `${at}.options: tmpcopyup: ${destination} could not be copied`, {
          details: [wrong],
        });
      }
      // The folder itself is as the mount says, not as the image has it.
      fchownSync(target, before.uid, before.gid);
      fchmodSync(target, before.mode & 0o7777);
    } finally {
      closeSync(source);
      closeSync(target);
    }
  }
}
