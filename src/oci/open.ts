import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { errnoName } from '../sys/errno.ts';
import { O, RESOLVE } from '../sys/flags.ts';
import { trySyscall, withBytes, withCString } from '../sys/libc.ts';
import { openHow } from './paths.ts';

/**
 * Opens a path below a folder that stands for a root, such as /proc/PID/root. There may be any symbolic link: the path is
 * resolved as if that folder were the root (openat2(2), RESOLVE_IN_ROOT), never beyond it. Returns a descriptor.
 * @throws TSV_SYSCALL
 */
export function openBelow(folder: string, path: string, flags: number): number {
  const root = openSync(folder, O.PATH | O.DIRECTORY);
  try {
    const relative = path.replace(/^\/+/, '') || '.';
    const fd = withBytes(openHow(flags, RESOLVE.IN_ROOT), (how) =>
      withCString(relative, (name) => trySyscall('openat2', root, name, how, 24)),
    );
    if (fd < 0) {
      const errno = errnoName(-fd);
      throw new TsvError('TSV_SYSCALL', `${path}: ${errno === 'ENOENT' ? 'no such file or folder' : errno}`, {
        details: [errno],
      });
    }
    return fd;
  } finally {
    closeSync(root);
  }
}

const smallFileBytes = 1 << 20;

/**
 * A small text file below a folder that stands for a root; undefined where there is nothing of that name, empty where it is
 * something else.
 */
export function readBelow(folder: string, path: string): string | undefined {
  let place: number;
  try {
    place = openBelow(folder, path, O.PATH);
  } catch {
    return undefined; // an image without that file
  }
  try {
    const stat = fstatSync(place);
    if (!stat.isFile() || stat.size > smallFileBytes) return '';
    // Not before: to open a device may be to start it, and a container that may make nodes makes any.
    return readFileSync(`/proc/self/fd/${place}`, 'utf8');
  } finally {
    closeSync(place);
  }
}
