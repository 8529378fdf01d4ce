import { closeSync, constants, fsyncSync, openSync } from 'node:fs';

/** fsync of a folder: makes the names in it durable (fsync(2), NOTES). */
export function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
