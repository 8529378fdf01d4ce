import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, readdirSync } from 'node:fs';
import { openAt, renameAt, unlinkAt } from '../../sys/files.ts';
import { AT, O } from '../../sys/flags.ts';

const ENOENT = 2;
const EISDIR = 21;
const ENOTEMPTY = 39;

/**
 * Removes a folder with all that is in it, through no link. However deep it is: a folder that is not empty is first
 * moved up to the top, so that two descriptors are enough. `removed` is told of each folder's inode.
 * Returns 0, also when it is gone already, or -errno.
 */
export function removeFolder(parent: number, name: string, removed?: (ino: bigint) => void): number {
  const top = openAt(parent, name, O.RDONLY | O.DIRECTORY);
  if (top < 0) return top === -ENOENT ? 0 : top;
  // No archive can have such a name.
  const prefix = `.removing-${randomBytes(16).toString('hex')}-`;
  let count = 0;
  const waiting: string[] = [];
  /** Removes what can be removed at once; folders with something in them wait at the top. */
  const empty = (folder: number): number => {
    for (const entry of readdirSync(`/proc/self/fd/${folder}`, { encoding: 'latin1' })) {
      let result = unlinkAt(folder, entry);
      if (result === -EISDIR) {
        if (removed !== undefined) removed(inodeOf(folder, entry));
        result = unlinkAt(folder, entry, AT.REMOVEDIR);
      }
      if (result === -ENOTEMPTY) {
        const place = folder === top ? entry : `${prefix}${count++}`;
        result = folder === top ? 0 : renameAt(folder, entry, top, place);
        waiting.push(place);
      }
      if (result !== 0) return result;
    }
    return 0;
  };
  try {
    removed?.(fstatSync(top, { bigint: true }).ino);
    let result = empty(top);
    for (let next = waiting.pop(); result === 0 && next !== undefined; next = waiting.pop()) {
      const folder = openAt(top, next, O.RDONLY | O.DIRECTORY);
      if (folder < 0) return folder;
      result = empty(folder);
      closeSync(folder);
      if (result === 0) result = unlinkAt(top, next, AT.REMOVEDIR);
    }
    if (result !== 0) return result;
  } finally {
    closeSync(top);
  }
  return unlinkAt(parent, name, AT.REMOVEDIR);
}

function inodeOf(folder: number, name: string): bigint {
  const fd = openAt(folder, name, O.PATH);
  if (fd < 0) return 0n; // of no file
  try {
    return fstatSync(fd, { bigint: true }).ino;
  } finally {
    closeSync(fd);
  }
}
